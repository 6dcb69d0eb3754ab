"""A failed call → the rows that fail alone, and the outputs of all other rows.

Model calls and the decoding of records use the same bisection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from scoreline.models.errors import ModelError

# If this many rows, spread over a batch, all fail alone for one reason, the batch is not bisected:
# the model fails, or the whole file is bad.
_PROBES = 64
# The same number if each failure costs a process and the full time limit of a call.
_COSTLY_PROBES = 4
# Parts of a run after such a costly failure: successful calls are cheap in comparison.
_COSTLY_WAYS = 256
# Maximum number of costly failures per batch.
_MAX_COSTLY = 32

Outputs = TypeVar("Outputs")


class EveryRowFails(ValueError):
    """All probed rows failed alone for the same reason, or there were too many costly failures."""


class Isolated(NamedTuple, Generic[Outputs]):
    """The result of the bisection of a failed batch.

    Attributes:
      parts: runs of rows whose call succeeded, in order: start, stop, outputs.
      dead: the reason of each row that failed alone, by position.
      calls: number of calls.
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
    """Bisect a failed batch until each failing row is isolated.

    A run of rows that fails is halved. If the first half succeeds, the second must fail, and it is
    halved without a call. So one bad row among n costs about 1.5 · log2(n) calls, and k bad rows at
    most k times that. After a costly failure, the run is split into 256 parts. Then a bad row costs
    about 500 successful calls and 2 failed ones. A row is dead only if a call of it alone fails.

    Args:
      call: returns the outputs of rows start to stop, or raises. A ModelError is raised on,
        because there is no model any more.
      rows: number of rows of the batch, whose whole call has failed.
      describe: returns the reason of a dead letter for an exception.
      failure: the exception of the whole call.
      is_costly: whether a failure costs far more than a successful call.
      errors: exceptions that a row can cause; all others are raised on.
      may_all_fail: whether all rows may be bad for the same reason.

    Raises:
      EveryRowFails: 64 rows spread over the batch all fail alone for the same reason (4 rows if
        failures are costly), or there are 33 costly failures in one batch.
    """
    attempts = _Attempts(call, rows, describe, is_costly, errors)
    unknown = failure or RuntimeError()
    if not may_all_fail:
        _probe(attempts, _COSTLY_PROBES if is_costly(unknown) else _PROBES)
    dead: dict[int, str] = {}
    # Start, stop, and the failure of the run if it is known.
    todo: list[tuple[int, int, Exception | None]] = [(0, rows, unknown)]
    while todo:
        start, stop, error = todo.pop()
        alone = stop - start == 1
        if error is None or alone:
            error = attempts.make(start, stop)
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
        first = attempts.make(start, middle)
        if first is None:
            todo.append((middle, stop, error))
            continue
        todo.append((middle, stop, None))
        if middle - start == 1:
            dead[start] = describe(first)
        else:
            todo.append((start, middle, first))
    return Isolated(attempts.parts, dead, attempts.calls)


class _Attempts(Generic[Outputs]):
    """Makes the calls for a batch, counts them, and keeps the outputs of successful calls."""

    def __init__(
        self,
        call: Callable[[int, int], Outputs],
        rows: int,
        describe: Callable[[Exception], str],
        is_costly: Callable[[Exception], bool],
        errors: tuple[type[Exception], ...],
    ) -> None:
        self._call, self.rows, self.describe = call, rows, describe
        self._is_costly, self._errors = is_costly, errors
        self.parts: list[tuple[int, int, Outputs]] = []
        self.calls = self._costly = 0

    def make(self, start: int, stop: int, *, keep: bool = True) -> Exception | None:
        """Make one call; return its exception, or None if it succeeds.

        Raises:
          EveryRowFails: there were too many costly failures.
        """
        self.calls += 1
        try:
            outputs = self._call(start, stop)
        except ModelError:
            raise
        except self._errors as e:
            self._costly += self._is_costly(e)
            if self._costly > _MAX_COSTLY:
                raise EveryRowFails(
                    f"{self._costly} costly failures in a batch of {self.rows} rows: "
                    f"{self.describe(e)}"
                ) from e
            return e
        if keep:
            self.parts.append((start, stop, outputs))
        return None


def _probe(attempts: _Attempts[Outputs], probes: int) -> None:
    """Raise EveryRowFails unless a probed row succeeds, or fails for another reason."""
    if attempts.rows <= probes:
        return
    reasons = set()
    for number in range(probes):
        row = number * (attempts.rows - 1) // (probes - 1)
        error = attempts.make(row, row + 1, keep=False)
        if error is None:
            return
        reasons.add(attempts.describe(error))
        if len(reasons) > 1:
            return
    raise EveryRowFails(
        f"every one of {probes} rows spread over a batch of {attempts.rows} fails alone: "
        f"{reasons.pop()}"
    )
