"""Whether a row's score is its own: the same beside other rows, alone, in another place, and again.

    found = check_purity(predict, features, rows, inputs).impurity
    if found: raise ModelError(found.describe("event_id=17"))

The checks and their tolerance are explained in docs/decisions/0020-purity.md.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.models.errors import ModelError, describe_error
from scoreline.models.impurity import Impurity, Kind
from scoreline.models.process import ProcessLost
from scoreline.models.rounding import (
    Scores,
    can_disturb,
    distances,
    disturb,
    join_scores,
    limits_of,
    read_scores,
    spread_of,
)
from scoreline.models.shapes import is_list, longest, match_levels
from scoreline.models.signature import InputColumn

MAX_ROWS = 1024
# Rows of a sample that prove something. A check of fewer is repeated when there are more.
ENOUGH_ROWS = 32
# Slow models are checked with fewer rows, so that all calls take about this long.
_SECONDS = 0.5
_LEAST_ROWS = 16
_SMALL_CALL = 32
_ALONE = 4
_PASSES = 5  # calls of all rows
# Calls with inputs that are changed by rounding: how often, by how much, and the factor between a
# difference and what it explains.
_DISTURBANCES = 4
_FINE, _COARSE = 2.0**-22, 2.0**-9
_MIDDLE = 2.0**-18
_FACTOR = 4.0
# Without floats among the inputs: differences that are rounding if no neighbour and no repetition
# changes a score.
_SHARE_OF_SPREAD, _SHARE_OF_ROWS = 1e-3, 0.02
# Calls of one row in turn, and changes of direction that tell chance from a state.
_TURNS, _MIN_BENDS = 24, 3

# What of a call is compared: what a difference means, the call in words, rows of the call, and the
# same rows of the sample.
_Part = tuple[Kind, str, np.ndarray, np.ndarray]
Predict = Callable[[Mapping[str, pa.Array], int], Mapping[str, pa.Array]]


class Checked(NamedTuple):
    """How many rows were checked, and what is wrong; None if each score is its row's own."""

    rows: int
    impurity: Impurity | None


class SampleFails(Exception):
    """A call of the sample as a whole failed: some of its rows fail by themselves.

    If no row does, the model fails on calls of this size: `impurity`.
    """

    def __init__(self, reason: str, rows: int) -> None:
        """Keep the reason, and how many rows the call had."""
        super().__init__(reason)
        calls = ("in smaller calls", f"in a call of {rows:,} rows")
        self.impurity = Impurity(
            Kind.FAILS, "", 0, ("", ""), calls, rows, rows, 0.0, 0.0, error=reason
        )


class _Comparison(NamedTuple):
    """Scores of rows of the sample in another call.

    Attributes:
      kind: what a difference means.
      call: the call, in words.
      rows: positions of the rows.
      scores: their scores by output.
    """

    kind: Kind
    call: str
    rows: np.ndarray
    scores: Mapping[str, Scores]


class _Suspicion(NamedTuple):
    """Rows of a comparison whose scores differ by more than rounding usually does."""

    comparison: _Comparison
    output: str
    apart: np.ndarray
    at: np.ndarray


def check_purity(
    predict: Predict, features: Mapping[str, pa.Array], rows: int, inputs: Sequence[InputColumn]
) -> Checked:
    """Score rows together, alone, in reverse, beside others and again; return what is wrong.

    At most 1,024 rows are scored, in about 16 calls. A slow model gets fewer rows.

    Args:
      predict: scores features of some rows in one call, if the model's calls are large enough.
      features: one column for each input, without bad rows: real rows, the first ones.
      rows: number of rows.
      inputs: the sources of the inputs.

    Raises:
      SampleFails: some rows fail by themselves.
      ProcessLost, ModelError: the model's process is lost.
    """
    if not rows:
        return Checked(0, None)
    check = _Check(predict, features, rows, inputs)
    return Checked(check.rows, check.find())


class _Check:
    def __init__(
        self,
        predict: Predict,
        features: Mapping[str, pa.Array],
        rows: int,
        inputs: Sequence[InputColumn],
    ) -> None:
        self._predict, self._features, self._inputs = predict, features, inputs
        self._disturbed: dict[float, list[dict[str, Scores]]] = {}
        self._small = min(_SMALL_CALL, rows)
        self._seconds, self._first = self._time()
        self.rows = self._choose_rows(min(rows, MAX_ROWS))
        self._whole = self._sample(self._take(range(self.rows)))
        self._limits = {name: limits_of(scores) for name, scores in self._whole.items()}

    def _time(self) -> tuple[float, dict[str, Scores]]:
        """Return seconds per row of a small call, and its scores."""
        began = time.perf_counter()
        scores = self._sample(self._take(range(self._small)))
        return (time.perf_counter() - began) / self._small, scores

    def _choose_rows(self, rows: int) -> int:
        """Return how many rows can be scored some times within the time."""
        if rows > self._small and self._seconds * rows * _PASSES > _SECONDS:
            self._seconds = min(self._seconds, self._time()[0])  # the first call prepares more
        fitting = int(_SECONDS / max(self._seconds * _PASSES, 1e-9))
        power = 1 << (max(fitting, _LEAST_ROWS).bit_length() - 1)
        return min(rows, power)  # the same shape at each start, in spite of the clock

    def _sample(self, features: Mapping[str, pa.Array]) -> dict[str, Scores]:
        rows = len(next(iter(features.values())))
        try:
            return self._score(features, rows)
        except (ProcessLost, ModelError):
            raise
        except Exception as e:
            raise SampleFails(describe_error(e), rows) from e

    def _take(self, rows: np.ndarray | range) -> dict[str, pa.Array]:
        if isinstance(rows, range):
            return {n: c.slice(rows.start, len(rows)) for n, c in self._features.items()}
        at = pa.array(np.asarray(rows, np.int64))
        return {name: column.take(at) for name, column in self._features.items()}

    def _score(self, features: Mapping[str, pa.Array], rows: int) -> dict[str, Scores]:
        return {name: read_scores(c) for name, c in self._predict(features, rows).items()}

    def find(self) -> Impurity | None:
        """Make all calls, and return what is wrong."""
        others: list[_Comparison] = []
        failure = self._compare(others)
        changed = [s for c in others if c.kind is Kind.AGAIN for s in self._suspect(c)]
        changed = changed or self._compare_with_first(others)
        if changed:
            return self._report(changed, self._state_or_chance(changed[0].output))
        if failure is not None:
            return failure
        for kind in (Kind.NEIGHBOURS, Kind.PLACE, Kind.SIZE):
            suspicions = [s for c in others if c.kind is kind for s in self._suspect(c)]
            wrong = [s for s in suspicions if not self._is_rounding(s)]
            if wrong:
                padded = self._padded_inputs()
                if padded and self._is_padding(wrong[0].output):
                    return self._report(wrong, Kind.PADDING)._replace(inputs=padded)
                return self._report(wrong, kind)
        return None

    def _compare(self, others: list[_Comparison]) -> Impurity | None:
        """Add the other calls; return the failure of one, though the whole sample was scored."""
        for rows, parts in self._calls():
            try:
                scores = self._score(self._take(rows), len(rows))
            except (ProcessLost, ModelError):
                raise
            except Exception as e:  # noqa: BLE001  any error of the model
                return self._fails(parts[0], e)
            for kind, words, at, compared in parts:
                part = {name: output.at(at) for name, output in scores.items()}
                others.append(_Comparison(kind, words, compared, part))
        return None

    def _calls(self) -> Iterator[tuple[np.ndarray, list[_Part]]]:
        """Yield the rows of each call, and what of it is compared with the whole sample."""
        n = self.rows
        everything, one = np.arange(n), np.zeros(1, int)
        front, back = everything[: n // 2], everything[n // 2 :]
        for at in range(min(_ALONE, n)):
            row = one + at * min(n, _SMALL_CALL) // _ALONE
            yield row, [(Kind.SIZE, "alone", one, row)]
        if n > 1:
            small = everything[: self._small if n > self._small else n // 2]
            yield small, [(Kind.SIZE, f"in a call of {len(small)} rows", small, small)]
            yield everything[::-1], [(Kind.PLACE, "in reverse order", everything, everything[::-1])]
            beside = np.concatenate([front, back * 0])
            place = (Kind.PLACE, "in another place of a call of the same size", back, back * 0)
            yield beside, [(Kind.NEIGHBOURS, _BESIDE, front, front), place]
            beside = np.concatenate([front * 0 + n - 1, back])
            yield beside, [(Kind.NEIGHBOURS, _BESIDE, back, back)]
        yield everything, [(Kind.AGAIN, "again", everything, everything)]

    def _compare_with_first(self, others: Sequence[_Comparison]) -> list[_Suspicion]:
        """Return the outputs that the very first call gave otherwise than a later one like it."""
        rows = np.arange(min(self._small, self.rows))
        same = [c.scores for c in others if len(c.rows) == self._small and (c.rows[0] == 0)]
        later = self._whole if self.rows <= self._small else same[0] if same else self._first
        found = []
        for name, scores in self._first.items():
            first = scores.at(slice(0, len(rows)))
            apart = distances(first, later[name].at(slice(0, len(rows))))
            at = np.flatnonzero(apart > self._limits[name][rows])
            if len(at):
                call = _Comparison(Kind.AGAIN, "in the first call", rows, {name: first})
                found.append(_Suspicion(call, name, apart, at))
        return found

    def _fails(self, part: _Part, error: Exception) -> Impurity:
        _, words, _, compared = part
        rows = len(compared)
        calls = (self._whole_call(), words)
        reason = describe_error(error)
        row = int(compared[0])
        return Impurity(Kind.FAILS, "", row, ("", ""), calls, rows, rows, 0.0, 0.0, error=reason)

    def _whole_call(self) -> str:
        return f"together with {self.rows - 1:,} other rows" if self.rows > 1 else "at first"

    def _suspect(self, comparison: _Comparison) -> list[_Suspicion]:
        """Return the outputs that differ by more than is certainly rounding."""
        found = []
        for name, scores in comparison.scores.items():
            apart = distances(self._whole[name].at(comparison.rows), scores)
            at = np.flatnonzero(apart > self._limits[name][comparison.rows])
            if len(at):
                found.append(_Suspicion(comparison, name, apart, at))
        return found

    def _is_rounding(self, found: _Suspicion) -> bool:
        """Return whether inputs that differ by rounding change the scores as much.

        Neighbours leave the arithmetic of a row as it is, unless tensors change their shape, so
        only the finest changes explain a difference.
        """
        strict = found.comparison.kind is Kind.NEIGHBOURS
        if can_disturb(self._inputs):
            shares = (_FINE,) if strict else (_MIDDLE, _COARSE)
            return any(self._explains(share, found) for share in shares)
        if strict:
            return False
        apart, scores = found.apart[found.at], self._whole[found.output]
        if scores.is_float:
            return bool(apart.max() <= _SHARE_OF_SPREAD * spread_of(scores))
        return len(found.at) <= max(1, _SHARE_OF_ROWS * len(found.apart))

    def _explains(self, share: float, found: _Suspicion) -> bool:
        """Return whether inputs changed by a share move most of the suspicious scores as far."""
        whole = self._whole[found.output]
        moved = np.zeros(self.rows)
        for scores in self._disturb(share):
            np.maximum(moved, distances(whole, scores[found.output]), out=moved)
        rows = found.comparison.rows[found.at]
        explained = found.apart[found.at] <= _FACTOR * moved[rows]
        return bool(2 * np.count_nonzero(explained) > len(explained))

    def _disturb(self, share: float) -> list[dict[str, Scores]]:
        """Return scores of inputs that are changed by a share, without calls that fail."""
        if share not in self._disturbed:
            self._disturbed[share] = []
            for seed in range(_DISTURBANCES):
                features = disturb(self._take(range(self.rows)), self._inputs, share, seed)
                with contextlib.suppress(SampleFails):
                    self._disturbed[share].append(self._sample(features))
        return self._disturbed[share]

    def _padded_inputs(self) -> tuple[str, ...]:
        """Return the inputs whose lists are padded to the longest of a call."""
        return tuple(
            source.tensor.name
            for source in self._inputs
            if source.pad is not None
            and is_list(self._features[source.tensor.name].type)
            and None in (match_levels(self._features[source.tensor.name].type, source.tensor) or ())
        )

    def _is_padding(self, output: str) -> bool:
        """Return whether rows beside only the longest row have the scores of the whole sample."""
        sizes = [
            longest(self._features[name].slice(0, self.rows)) for name in self._padded_inputs()
        ]
        beside = sorted({int(np.argmax(size)) for size in sizes})
        rows = list(range(min(self.rows, _ALONE)))
        parts = [self._score(self._take(np.array([row, *beside])), 1 + len(beside)) for row in rows]
        scores = join_scores([part[output].at(slice(0, 1)) for part in parts])
        call = _Comparison(Kind.SIZE, "", np.array(rows), {output: scores})
        return all(self._is_rounding(s) for s in self._suspect(call))

    def _state_or_chance(self, output: str) -> Kind:
        """Return whether scores of one row in turn drift, as a state does, or jump."""
        turns = [self._score(self._take(range(1)), 1)[output] for _ in range(_TURNS)]
        values = np.stack([turn.values.reshape(-1)[:1] for turn in turns]).reshape(-1)
        if values.dtype.kind not in "fiub":
            _, values = np.unique(values.astype(str), return_inverse=True)
        steps = np.sign(np.diff(values.astype(np.float64)))
        steps = steps[steps != 0]
        bends = int(np.count_nonzero(np.diff(steps)))
        return Kind.CHANCE if bends >= _MIN_BENDS else Kind.STATE

    def _report(self, found: Sequence[_Suspicion], kind: Kind) -> Impurity:
        """Return the largest difference, in units of the output's spread."""

        def size(s: _Suspicion) -> float:
            spread = spread_of(self._whole[s.output]) if self._whole[s.output].is_float else 1.0
            return float(s.apart.max()) / (spread or 1.0)

        worst = max(found, key=size)
        at = int(np.argmax(worst.apart))
        row = int(worst.comparison.rows[at])
        whole = self._whole[worst.output]
        return Impurity(
            kind=kind,
            output=worst.output,
            row=row,
            scores=_show(whole.at(slice(row, row + 1)), worst.comparison.scores[worst.output], at),
            calls=(self._whole_call(), worst.comparison.call),
            differ=len(worst.at),
            compared=len(worst.apart),
            apart=float(worst.apart[at]),
            spread=spread_of(whole) if whole.is_float else 0.0,
        )


_BESIDE = "beside other rows in a call of the same size"


def _show(one: Scores, others: Scores, at: int) -> tuple[str, str]:
    """Return the values of two scores that differ most, as text."""
    a, b = one.values[:1].reshape(-1), others.values[at : at + 1].reshape(-1)
    size = min(len(a), len(b))
    pairs = [
        distances(Scores(a[i : i + 1], None), Scores(b[i : i + 1], None))[0] for i in range(size)
    ]
    worst = int(np.argmax(pairs))
    return _text(a[worst]), _text(b[worst])


def _text(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):.6g}"
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return repr(value) if isinstance(value, str) else str(value)
