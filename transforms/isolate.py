"""A call that failed → the rows that fail, each by itself, and the outputs of all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

# A batch in which so many rows, spread over it, all fail alone for one reason is not taken apart:
# it is the model that fails, or the whole file.
_PROBES = 64

Outputs = TypeVar("Outputs")


class EveryRowFails(ValueError):
    """Every row that was tried alone failed for the same reason; the message says which."""


class Isolated(NamedTuple, Generic[Outputs]):
    """What is left of a batch whose call failed.

    Attributes:
      parts: the runs of rows that were scored, in order: first row, row behind the last, outputs.
      dead: the reason of each row that failed alone, by position.
      calls: how many calls of the model it took.
    """

    parts: list[tuple[int, int, Outputs]]
    dead: dict[int, str]
    calls: int


def isolate(
    call: Callable[[int, int], Outputs],
    rows: int,
    describe: Callable[[Exception], str],
) -> Isolated[Outputs]:
    """Take a batch apart until the rows that fail stand alone.

    A run of rows that fails is halved. When the first half succeeds, the second is known to fail
    and is halved without a call, so that one bad row among n costs about 1.5 · log2(n) calls, and k
    bad rows no more than k times that. A row is dead only if a call of it alone fails.

    Args:
      call: scores rows start to stop, or raises.
      rows: rows of the batch, whose call as a whole has failed.
      describe: the reason a dead letter gets for what was raised.

    Raises:
      EveryRowFails: 64 rows spread over the batch all fail alone, for the same reason.
    """
    calls = _probe(call, rows, describe)
    parts: list[tuple[int, int, Outputs]] = []
    dead: dict[int, str] = {}
    todo = [(0, rows, True)]  # first row, row behind the last, whether it is known to fail
    while todo:
        start, stop, is_bad = todo.pop()
        alone = stop - start == 1
        if not is_bad or alone:
            calls += 1
            try:
                parts.append((start, stop, call(start, stop)))
                continue
            except Exception as e:  # noqa: BLE001  whatever the model raises costs rows
                if alone:
                    dead[start] = describe(e)
                    continue
        middle = (start + stop) // 2
        calls += 1
        try:
            parts.append((start, middle, call(start, middle)))
        except Exception as e:  # noqa: BLE001  as above
            todo.append((middle, stop, False))
            if middle - start == 1:
                dead[start] = describe(e)
            else:
                todo.append((start, middle, True))
        else:
            todo.append((middle, stop, True))
    return Isolated(parts, dead, calls)


def _probe(
    call: Callable[[int, int], Outputs], rows: int, describe: Callable[[Exception], str]
) -> int:
    """Return how many rows were tried until one could be scored."""
    if rows <= _PROBES:
        return 0
    reasons = set()
    for number in range(_PROBES):
        at = number * (rows - 1) // (_PROBES - 1)
        try:
            call(at, at + 1)
        except Exception as e:  # noqa: BLE001  as above
            reasons.add(describe(e))
        else:
            return number + 1
        if len(reasons) > 1:
            return number + 1
    raise EveryRowFails(
        f"every one of {_PROBES} rows spread over a batch of {rows} fails alone: {reasons.pop()}"
    )
