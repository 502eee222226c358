"""What a cluster takes, from what one shard takes: memory, cores, machines, queries, money.

Everything here is arithmetic on measured figures and stated assumptions. Bytes are bytes, times are
seconds, prices are of an unnamed currency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ID_BYTES = 8
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Machine:
    """A machine that one could rent.

    Attributes
    ----------
    cores : int
    memory : int
        Bytes.
    usable : float
        Share of the memory that shards may take.
    price : float
        Of an hour.
    bandwidth : float
        Bytes per second that all cores together read from memory.
    """

    cores: int = 64
    memory: int = 256 << 30
    usable: float = 0.8
    price: float = 3.0
    bandwidth: float = 200e9


@dataclass(frozen=True)
class Codes:
    """What is stored.

    Attributes
    ----------
    vectors : int
    d : int
    code_bytes : int
    nlist : int
        Cells, which all shards have in common; 0 for flat shards.
    nprobe : int
        Cells that a query looks into, in every shard.
    """

    vectors: int
    d: int
    code_bytes: int
    nlist: int = 0
    nprobe: int = 0


def caller_seconds(shards: int, call: float, round_trip: float, merge: float) -> float:
    """Seconds that caller and network add to a query: all calls one after another, and the merge.

    `call` are seconds of the caller for one call, sending and receiving; `merge` for all results.
    """
    return shards * call + round_trip + merge


def callers(rate: float, at_once: int, seconds: float, utilisation: float) -> int:
    """Return how many callers it takes to send so many queries per second, `at_once` in a call.

    `seconds` are those of a caller for a call to all shards: `caller_seconds` without the network.
    """
    return math.ceil(rate / at_once * seconds / utilisation)


def shard_bytes(codes: Codes, rows: int, process: int) -> int:
    """Memory of one worker: its codes, ids, centres of cells, and `process`, what a process takes.

    Files of flat shards have no ids, where these are successive.
    """
    ids = ID_BYTES * rows if codes.nlist else 0
    centres = FLOAT_BYTES * codes.nlist * codes.d
    return rows * codes.code_bytes + ids + centres + process


def in_proportion(measured: float, measured_rows: int, rows: int) -> float:
    """Seconds or bytes of a flat shard of other rows than the measured one."""
    return measured * rows / measured_rows


@dataclass(frozen=True)
class CellTimes:
    """A query in a shard with cells: finding the cells, and so much for each code looked at."""

    fixed: float
    code: float

    @classmethod
    def fitted(
        cls, few: float, many: float, nprobes: tuple[int, int], nlist: int, rows: int
    ) -> CellTimes:
        """From seconds of a query that looks into few and into many of the cells of `rows` rows.

        Neither part is taken to be less than nothing.
        """
        looked = (nprobes[1] - nprobes[0]) * rows / nlist
        code = max(0.0, (many - few) / looked)
        return cls(max(0.0, few - code * nprobes[0] * rows / nlist), code)

    def seconds(self, codes: Codes, rows: int) -> float:
        """Seconds of a query in a shard of so many rows and as many cells as were measured."""
        return self.fixed + self.code * rows * min(1.0, codes.nprobe / codes.nlist)


def line(x: tuple[float, float], y: tuple[float, float], at: float) -> float:
    """Value at `at` of the line through (x[0], y[0]) and (x[1], y[1])."""
    return y[0] + (y[1] - y[0]) * (at - x[0]) / (x[1] - x[0])


def bytes_read(codes: Codes, at_once: int) -> float:
    """Bytes of codes that a query reads in all shards, if so many are asked at once.

    A flat scan reads all codes once for all of them; of cells each query reads its own.
    """
    if codes.nlist:
        return codes.vectors * min(1.0, codes.nprobe / codes.nlist) * codes.code_bytes
    return codes.vectors * codes.code_bytes / at_once


def core_hours(vectors: int, seconds: float) -> float:
    """Hours of one core for something that takes so many seconds a vector."""
    return vectors * seconds / 3600


@dataclass(frozen=True)
class Plan:
    """A cluster: shards of so many rows, and what follows.

    Attributes
    ----------
    codes : Codes
    rows : int
        Vectors of a shard.
    replicas : int
    process : int
        Bytes of a worker besides its shard.
    seconds : float
        Of one core, for a query in one shard.
    at_once : int
        Queries of a call that takes `at_once` times as long.
    machine : Machine
    utilisation : float
        Share of their time that cores and memory may be busy, so that queues stay short.
    """

    codes: Codes
    rows: int
    replicas: int
    process: int
    seconds: float
    at_once: int = 1
    machine: Machine = Machine()
    utilisation: float = 0.5

    @property
    def shards(self) -> int:
        """Number of shards, rounded up."""
        return -(-self.codes.vectors // self.rows)

    @property
    def workers(self) -> int:
        """Processes, and cores: one each."""
        return self.shards * self.replicas

    @property
    def memory(self) -> int:
        """Bytes of all workers. Replicas on different machines do not share pages."""
        return self.workers * shard_bytes(self.codes, self.rows, self.process)

    @property
    def machines(self) -> int:
        """Machines, so that every worker has a core and its memory."""
        by_memory = self.memory / (self.machine.memory * self.machine.usable)
        return math.ceil(max(self.workers / self.machine.cores, by_memory))

    @property
    def of_cores(self) -> float:
        """Queries per second that keep the cores as busy as they may be.

        Each shard answers every query once, so that a query takes `shards` times `seconds` of a
        core; hedged calls and re-ranking are not counted.
        """
        return self.utilisation * self.replicas / self.seconds

    @property
    def of_memory(self) -> float:
        """Queries per second that keep the memory as busy as it may be, caches not counted."""
        bandwidth = self.machines * self.machine.bandwidth
        return self.utilisation * bandwidth / bytes_read(self.codes, self.at_once)

    @property
    def queries_per_second(self) -> float:
        """Queries per second, the lesser of both."""
        return min(self.of_cores, self.of_memory)

    @property
    def price_of_a_million(self) -> float:
        """Price of a million queries, if the cluster is always as busy as it may be."""
        return self.machines * self.machine.price * 1e6 / self.queries_per_second / 3600
