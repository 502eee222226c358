#!/usr/bin/env bash
# OR-Tools 9.15: min-cost flow takes arrays of fractions as costs, and cuts them to whole numbers.
#
# Two ways lead from node 0 to node 3, at costs of 0.9 and 0.2. `add_arcs_with_capacity_and_unit_cost`
# takes the costs as an array of floats without a word; all become 0, and the dearer way is "optimal".
# The same call for a single arc refuses a float with a TypeError.
#
# Seen: costs 9 and 2: flow over the second way, cost 2; costs 0.9 and 0.2: over the first, cost 0
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet ortools==9.15.6755 numpy==2.2.6
"$folder/venv/bin/python" - <<'EOF'
from importlib.metadata import version

import numpy as np
from ortools.graph.python import min_cost_flow


def solved(costs):
    flow = min_cost_flow.SimpleMinCostFlow()
    tails, heads = np.array([0, 0, 1, 2]), np.array([1, 2, 3, 3])
    flow.add_arcs_with_capacity_and_unit_cost(tails, heads, np.ones(4, int), costs)
    flow.set_nodes_supplies(np.arange(4), np.array([1, 0, 0, -1]))
    assert flow.solve() == flow.OPTIMAL
    return [flow.flow(arc) for arc in range(4)], flow.optimal_cost()


def refuses_a_float():
    try:
        min_cost_flow.SimpleMinCostFlow().add_arc_with_capacity_and_unit_cost(0, 1, 1, 0.9)
    except TypeError:
        return True
    return False


whole, fractions = solved(np.array([9, 2, 0, 0])), solved(np.array([0.9, 0.2, 0.0, 0.0]))
print(version("ortools"), whole, fractions, refuses_a_float())
as_seen = whole == ([0, 1, 0, 1], 2) and fractions == ([1, 0, 1, 0], 0) and refuses_a_float()
raise SystemExit(not as_seen)
EOF
