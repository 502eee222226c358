"""Questions to workers: another one is asked where one does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from deepq.distributed import engine


class ShardError(RuntimeError):
    """Shards did not answer.

    Attributes
    ----------
    missing : tuple of str
        Their names.
    """

    missing: tuple[str, ...] = ()


class ShardTimeoutError(ShardError, TimeoutError):
    """Shards did not answer in time."""


class NotServedError(Exception):
    """What a worker raises that could not open its shard."""


class Question(NamedTuple):
    """What one shard is asked.

    Attributes
    ----------
    name : str
        Of the shard, in errors.
    workers : list
        Those that can answer, in the order in which to ask them.
    call : callable
        A worker -> the call of it.
    """

    name: str
    workers: list[Any]
    call: Callable[[Any], Any]


class Answers(NamedTuple):
    """What came of questions.

    Attributes
    ----------
    values : list
        None where there is no answer.
    missing : tuple of str
        Names of the shards that have none.
    reasons : tuple of str
    late : bool
        Whether time had run out.
    """

    values: list[Any]
    missing: tuple[str, ...]
    reasons: tuple[str, ...]
    late: bool

    def error(self) -> ShardError:
        """Return what to raise for those that are missing."""
        of, names = len(self.values), ", ".join(self.missing)
        error = (ShardTimeoutError if self.late else ShardError)(
            f"expected answers of {of} shards, got none of {names}: {'; '.join(self.reasons)}"
        )
        error.missing = self.missing
        return error


@dataclass(eq=False)
class _Asked:
    """A question on its way."""

    question: Question
    rest: list[Any]
    errors: list[str] = field(default_factory=list)
    answer: Any = None

    def ask(self) -> Any:
        """Ask the next worker."""
        return self.question.call(self.rest.pop(0))


def ask(questions: Sequence[Question], timeout: float, hedge: float) -> Answers:
    """Ask all questions at once.

    Parameters
    ----------
    questions : sequence of Question
    timeout : float
        Seconds until all must be answered.
    hedge : float
        Seconds after which another worker is asked as well; the first answer counts.
    """
    ray = engine.connected()
    from ray.exceptions import RayActorError, RayTaskError

    asked = [_Asked(each, list(each.workers)) for each in questions]
    calls = {one.ask(): one for one in asked}
    begin, hedges = time.monotonic(), True
    while calls and (left := begin + timeout - time.monotonic()) > 0:
        if hedges:
            left = min(left, max(0.0, begin + hedge - time.monotonic()))
        # All together take one look; later every answer is looked at when it comes.
        done, _ = ray.wait(list(calls), num_returns=len(calls) if hedges else 1, timeout=left)
        for call in done:
            one = calls.pop(call, None)
            if one is None or one.answer is not None:
                continue
            try:
                one.answer = (ray.get(call),)
            except (RayActorError, RayTaskError) as error:
                cause = getattr(error, "cause", None)
                if isinstance(error, RayTaskError) and not isinstance(cause, NotServedError):
                    raise cause or error from None  # of the question: any worker would say it
                one.errors.append(f"{one.question.name}: {_first_line(cause or error)}")
                if one.rest:
                    calls[one.ask()] = one
        calls = {call: one for call, one in calls.items() if one.answer is None}
        if hedges and time.monotonic() >= begin + hedge:
            hedges = False
            calls |= {one.ask(): one for one in list(calls.values()) if one.rest}
    silent = [one for one in asked if one.answer is None]
    late = f"no answer in {timeout:.3g} s"
    return Answers(
        [None if one.answer is None else one.answer[0] for one in asked],
        tuple(one.question.name for one in silent),
        tuple(reason for one in silent for reason in (one.errors or [late])),
        any(not one.errors for one in silent),
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
