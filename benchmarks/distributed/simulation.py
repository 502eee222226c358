"""How long a query to many shards takes, when the times of one shard are known.

A query asks every shard; it is answered when the last one has answered. A worker answers one call
after the other, in the order in which they come. With several replicas of each shard, queries take
them in turn; `hedge` seconds after a query was sent, the next replica of every shard that has not
answered is asked as well, once, and the first answer counts. The first call goes on, and keeps its
worker busy. This is what `deepq.distributed.calls.ask` does. Queries come as a Poisson process.

Times of calls are drawn from those measured, independently; a stated share of calls takes a stated
number of times as long. What the caller and the network take is added afterwards: `whole`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]

_WARM_UP = 0.1  # of the queries, which find queues shorter than they will be
_ALONE = 1000  # times the longest call between two queries, where there is no load


@dataclass(frozen=True, eq=False)
class Cluster:
    """Shards, their replicas, and what they are asked.

    Attributes
    ----------
    times : (m,) float64
        Measured seconds of a call.
    shards, replicas : int
    load : float
        Queries per second, times the mean seconds of a call: the share of its time that the worker
        of a shard without replicas is busy. Replicas share it. 0 for queries that never meet.
    hedge : float
        Seconds after which another replica is asked; infinite for never.
    slow_share, slow_factor : float
        Share of calls that take so many times as long.
    queries : int
        Queries simulated, of which the first tenth is not looked at.
    seed : int
    """

    times: Seconds
    shards: int
    replicas: int = 1
    load: float = 0.0
    hedge: float = math.inf
    slow_share: float = 0.0
    slow_factor: float = 20.0
    queries: int = 20_000
    seed: int = 1234

    @property
    def mean(self) -> float:
        """Mean seconds of a call, slow ones included."""
        return float(self.times.mean() * (1 + self.slow_share * (self.slow_factor - 1)))

    def arrivals(self) -> Seconds:
        """When the queries come, in ascending order."""
        rng = np.random.default_rng([self.seed, 0])
        gaps = rng.exponential(size=self.queries)
        if self.load:
            return np.cumsum(gaps * (self.mean / self.load))
        # As far apart as no call takes.
        longest = self.times.max() * self.slow_factor
        longest += self.hedge if math.isfinite(self.hedge) else 0.0
        return np.arange(self.queries) * (_ALONE * longest)

    def drawn(self, rng: np.random.Generator) -> Seconds:
        """Seconds of a call to every shard."""
        times = self.times[rng.integers(len(self.times), size=self.shards)]
        slow = rng.random(self.shards) < self.slow_share
        return np.where(slow, times * self.slow_factor, times)


def answers(cluster: Cluster) -> Seconds:
    """Seconds (queries, shards) from sending a query until each shard has answered.

    Columns are independent but for the times at which queries come, so that the first n of them are
    what a cluster of n shards would do.
    """
    arrivals = cluster.arrivals()
    hedged = cluster.replicas > 1 and math.isfinite(cluster.hedge)
    # Streams of their own: with and without hedging the first calls are the same.
    first, second = (np.random.default_rng([cluster.seed, stream]) for stream in (1, 2))
    free = np.zeros((cluster.replicas, cluster.shards))
    done = np.empty((cluster.queries, cluster.shards))
    waiting = 0  # the oldest query that has not been looked at for hedging
    for query, now in enumerate(arrivals):
        while hedged and waiting < query and arrivals[waiting] + cluster.hedge <= now:
            _hedge(cluster, waiting, arrivals[waiting] + cluster.hedge, free, done, second)
            waiting += 1
        worker = free[query % cluster.replicas]
        np.maximum(worker, now, out=worker)
        worker += cluster.drawn(first)
        done[query] = worker
    for query in range(waiting, cluster.queries) if hedged else ():
        _hedge(cluster, query, arrivals[query] + cluster.hedge, free, done, second)
    done -= arrivals[:, None]
    return done[int(_WARM_UP * cluster.queries) :]


def _hedge(
    cluster: Cluster,
    query: int,
    now: float,
    free: Seconds,
    done: Seconds,
    rng: np.random.Generator,
) -> None:
    """Ask the next replica of every shard that has not answered."""
    late = np.flatnonzero(done[query] > now)
    times = cluster.drawn(rng)
    if len(late):
        worker = free[(query + 1) % cluster.replicas]
        end = np.maximum(worker[late], now) + times[late]
        worker[late] = end
        done[query, late] = np.minimum(done[query, late], end)


def whole(answered: Seconds, shards: int, caller: float = 0.0) -> Seconds:
    """Seconds (queries,) of queries to the first `shards` shards.

    `caller` is what caller and network add: nothing of it is taken to overlap with work of shards,
    so this is an upper bound.
    """
    return answered[:, :shards].max(axis=1) + caller
