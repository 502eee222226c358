#!/usr/bin/env bash
# Ray 2.60.0: what an actor's constructor raises loses its type and its cause; what a method raises keeps both.
#
# `ray.get` of a method that raises FileNotFoundError raises an error that is a FileNotFoundError too, and
# has the original as `cause`. When the constructor raises it, every call raises ActorDiedError: not a
# FileNotFoundError, with no `cause` and no `__cause__`; the original is in the text alone. So a worker that
# cannot open its file cannot be told from one that was killed, but by reading the message.
#
# Seen: method -> FileNotFoundError; constructor -> ActorDiedError, which has neither
# Ray runs in a network namespace of its own, as it opens ports on the machine's address.
set -euo pipefail
alone="$(cd "$(dirname "$0")/.." && pwd)/tests/distributed/alone.sh"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet ray==2.60.0
RAY_AUTH_MODE=disabled "$alone" "$folder/venv/bin/python" - <<'EOF'
import ray

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@ray.remote
class Opens:
    def __init__(self, at_once):
        if at_once:
            raise FileNotFoundError("vectors.npy")

    def read(self):
        raise FileNotFoundError("vectors.npy")


seen = {}
for where, at_once in (("method", False), ("constructor", True)):
    try:
        ray.get(Opens.remote(at_once).read.remote())
    except Exception as error:
        causes = (getattr(error, "cause", None), error.__cause__)
        told = isinstance(error, FileNotFoundError), any(causes), "vectors.npy" in str(error)
        seen[where] = (type(error).__mro__[0].__name__.partition("(")[0], *told)
print(ray.__version__, seen)
raise SystemExit(
    seen
    != {
        "method": ("RayTaskError", True, True, True),
        "constructor": ("ActorDiedError", False, False, True),
    }
)
EOF
