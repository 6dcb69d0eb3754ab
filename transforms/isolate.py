"""A call that failed → the rows that fail, each by itself, and the outputs of all others.

One bisection serves the calls of a model and the decoding of records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from scoreline.models.errors import ModelError

# A batch in which so many rows, spread over it, all fail alone for one reason is not taken apart:
# it is the model that fails, or the whole file.
_PROBES = 64
# The same where each failure costs a process and all the time that a call is given.
_COSTLY_PROBES = 4
# Runs that failed so dearly are cut into so many at once: calls that succeed are cheap beside that.
_COSTLY_WAYS = 256
# A batch is not worth more such failures.
_MAX_COSTLY = 32

Outputs = TypeVar("Outputs")


class EveryRowFails(ValueError):
    """Every row that was tried alone failed for the same reason, or too many failed dearly."""


class Isolated(NamedTuple, Generic[Outputs]):
    """What is left of a batch whose call failed.

    Attributes:
      parts: runs of rows whose call succeeded, in order: first row, row behind the last, outputs.
      dead: the reason of each row that failed alone, by position.
      calls: how many calls it took.
    """

    parts: list[tuple[int, int, Outputs]]
    dead: dict[int, str]
    calls: int


def isolate(
    call: Callable[[int, int], Outputs],
    rows: int,
    describe: Callable[[Exception], str],
    failure: Exception | None = None,
    is_costly: Callable[[Exception], bool] = lambda _: False,
    *,
    errors: tuple[type[Exception], ...] = (Exception,),
    may_all_fail: bool = False,
) -> Isolated[Outputs]:
    """Take a batch apart until the rows that fail stand alone.

    A run of rows that fails is halved. When the first half succeeds, the second is known to fail
    and is halved without a call, so that one bad row among n costs about 1.5 · log2(n) calls, and k
    bad rows no more than k times that. A run whose failure was costly is cut into 256: a bad row
    then costs some 500 calls that succeed, and 2 that fail. A row is dead only if a call of it
    alone fails.

    Args:
      call: returns the outputs of rows start to stop, or raises. A ModelError ends it all: there
        is no model.
      rows: rows of the batch, whose call as a whole has failed.
      describe: the reason a dead letter gets for what was raised.
      failure: what the call of the whole batch raised.
      is_costly: whether a failure costs far more than a call that succeeds.
      errors: what a row may be at fault for; anything else that is raised ends it all.
      may_all_fail: whether rows that all fail for one reason are each at fault by themselves.

    Raises:
      EveryRowFails: 64 rows spread over the batch all fail alone, for the same reason, or 4 of
        them where that is costly; or 33 costly failures in one batch.
    """
    parts: list[tuple[int, int, Outputs]] = []
    dead: dict[int, str] = {}
    calls = costly = 0

    def attempt(start: int, stop: int) -> tuple[Outputs, None] | tuple[None, Exception]:
        nonlocal calls, costly
        calls += 1
        try:
            return call(start, stop), None
        except ModelError:
            raise
        except errors as e:
            costly += is_costly(e)
            if costly > _MAX_COSTLY:
                raise EveryRowFails(
                    f"{costly} calls for a batch of {rows} rows failed dearly: {describe(e)}"
                ) from e
            return None, e

    def keep(start: int, stop: int) -> Exception | None:
        outputs, error = attempt(start, stop)
        if error is None:
            parts.append((start, stop, outputs))  # type: ignore[arg-type]
        return error

    unknown = failure or RuntimeError()
    if not may_all_fail:
        probes = _COSTLY_PROBES if is_costly(unknown) else _PROBES
        _probe(lambda row: attempt(row, row + 1)[1], rows, describe, probes)
    # First row, row behind the last, how it is known to fail.
    todo: list[tuple[int, int, Exception | None]] = [(0, rows, unknown)]
    while todo:
        start, stop, error = todo.pop()
        alone = stop - start == 1
        if error is None or alone:
            error = keep(start, stop)
            if error is None:
                continue
            if alone:
                dead[start] = describe(error)
                continue
        if is_costly(error):
            size = -(-(stop - start) // _COSTLY_WAYS)
            cuts = range(start, stop, size)
            todo += [(at, min(at + size, stop), None) for at in reversed(cuts)]
            continue
        middle = (start + stop) // 2
        first = keep(start, middle)
        if first is None:
            todo.append((middle, stop, error))
            continue
        todo.append((middle, stop, None))
        if middle - start == 1:
            dead[start] = describe(first)
        else:
            todo.append((start, middle, first))
    return Isolated(parts, dead, calls)


def _probe(
    fails: Callable[[int], Exception | None],
    rows: int,
    describe: Callable[[Exception], str],
    probes: int,
) -> None:
    """Raise EveryRowFails unless some row can be scored or fails for another reason."""
    if rows <= probes:
        return
    reasons = set()
    for number in range(probes):
        error = fails(number * (rows - 1) // (probes - 1))
        if error is None:
            return
        reasons.add(describe(error))
        if len(reasons) > 1:
            return
    raise EveryRowFails(
        f"every one of {probes} rows spread over a batch of {rows} fails alone: {reasons.pop()}"
    )
