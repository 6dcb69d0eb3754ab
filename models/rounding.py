"""How far the scores of the same rows may differ between calls by rounding alone.

Calls of other sizes add in another order, so the last digits of a float differ. The rule is in
docs/decisions/0020-purity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.models.shapes import map_values, nesting_of, to_dense
from scoreline.models.signature import InputColumn, TensorSpec
from scoreline.models.tensors import arrow_type

# A difference within all of these is rounding: units in the last place of a number, a share of its
# magnitude, and a share of the output's spread.
_LAST_PLACES = 4
_SHARE_OF_MAGNITUDE = 2e-5
_SHARE_OF_SPREAD = 1e-2
# Bits of a float32 that are 0 in every float16 or bfloat16, and the precision of these.
_HALVES = ((16, 2.0**-7), (13, 2.0**-10))
# Relative change of inputs that their own precision cannot hold.
_COARSE = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


class Scores(NamedTuple):
    """The scores of one output by rows.

    Attributes:
      values: numbers or objects, rows first; rows of different lengths are filled up.
      held: which values are there; None for all.
    """

    values: np.ndarray
    held: np.ndarray | None

    def at(self, rows: np.ndarray | slice) -> Scores:
        """Return some rows."""
        return Scores(self.values[rows], None if self.held is None else self.held[rows])

    @property
    def is_float(self) -> bool:
        """Whether they are floating-point numbers, which rounding may change a little."""
        return self.values.dtype.kind == "f"


def read_scores(column: pa.Array) -> Scores:
    """Return an output column as an array."""
    depth = len(nesting_of(column.type).sizes)
    if not depth:
        return Scores(_plain(column), None)
    spec = TensorSpec("", "", (None,) * (depth + 1))
    values = to_dense(column, spec, _plain, 0)
    ones = map_values(column, lambda flat: pa.array(np.ones(len(flat), bool)))
    held = to_dense(ones, spec, _plain, False)
    return Scores(values, None if held.all() else held)


def _plain(values: pa.Array) -> np.ndarray:
    return np.asarray(values.to_numpy(zero_copy_only=False))


def join_scores(parts: Sequence[Scores]) -> Scores:
    """Return the rows of several calls, whose lists may differ in length."""
    shapes = [part.values.shape[1:] for part in parts]
    if len(set(shapes)) == 1 and all(part.held is None for part in parts):
        return Scores(np.concatenate([part.values for part in parts]), None)
    widest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    filled, held = [], []
    for part in parts:
        edges = [(0, 0), *((0, w - s) for w, s in zip(widest, part.values.shape[1:], strict=True))]
        there = np.ones(part.values.shape, bool) if part.held is None else part.held
        filled.append(np.pad(part.values, edges))
        held.append(np.pad(there, edges))
    return Scores(np.concatenate(filled), np.concatenate(held))


def distances(one: Scores, other: Scores) -> np.ndarray:
    """Return how far apart two scores of each row are, at most over the row's values.

    Values that are no floats are 1 apart if they differ. A number that is finite on one side only
    is infinitely far. Of lists that differ in length the common part is compared.
    """
    rows = len(one.values)
    pairs = zip(one.values.shape[1:], other.values.shape[1:], strict=True)
    common = (slice(None), *(slice(0, min(sizes)) for sizes in pairs))
    a, b = one.values[common], other.values[common]
    if one.is_float:
        a, b = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(a - b)
        apart[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
        apart[np.isnan(apart)] = np.inf
    else:
        apart = (a != b).astype(np.float64)
    for held in (one.held, other.held):
        if held is not None:
            apart = np.where(held[common], apart, 0.0)
    return apart.reshape(rows, -1).max(axis=1, initial=0.0)


def precision_of(scores: Scores) -> float:
    """Return the distance from 1 to the next number that the scores can hold.

    Scores that are stored as float32, and are all numbers of a shorter type, have its precision.
    """
    values = scores.values
    if values.dtype != np.float32:
        return float(np.finfo(values.dtype).eps)
    bits = np.ascontiguousarray(values).view(np.uint32)
    for zeros, precision in _HALVES:
        if not (bits & np.uint32((1 << zeros) - 1)).any():
            return precision
    return float(np.finfo(np.float32).eps)


def spread_of(scores: Scores) -> float:
    """Return the standard deviation of each value over the rows, as its root mean square."""
    numbers = _finite(scores)
    if not numbers.size or len(numbers) < 2:
        return 0.0
    mean = np.ma.mean(numbers, axis=0)
    return float(np.sqrt(np.ma.filled(np.ma.mean((numbers - mean) ** 2), 0.0)))


def _finite(scores: Scores) -> np.ma.MaskedArray:
    numbers = scores.values.astype(np.float64)
    hidden = ~np.isfinite(numbers)
    if scores.held is not None:
        hidden |= ~scores.held
    return np.ma.masked_array(numbers, hidden)


def limits_of(scores: Scores) -> np.ndarray:
    """Return, for each row, the largest difference that is certainly rounding."""
    rows = len(scores.values)
    if not scores.is_float:
        return np.zeros(rows)
    numbers = np.ma.abs(_finite(scores)).reshape(rows, -1)
    own = np.ma.filled(numbers.max(axis=1), 0.0) if numbers.shape[1] else np.zeros(rows)
    usual = float(np.sqrt(np.ma.filled(np.ma.mean(numbers**2), 0.0)))
    magnitude = np.maximum(own, usual)
    limits = _SHARE_OF_MAGNITUDE * magnitude
    spread = spread_of(scores)
    if spread:
        limits = np.minimum(limits, _SHARE_OF_SPREAD * spread)
    return np.maximum(limits, _LAST_PLACES * precision_of(scores) * magnitude)


def can_disturb(inputs: Sequence[InputColumn]) -> bool:
    """Return whether an input holds floats."""
    return any("float" in source.tensor.dtype for source in inputs)


def disturb(
    features: Mapping[str, pa.Array], inputs: Sequence[InputColumn], share: float, seed: int
) -> dict[str, pa.Array]:
    """Return features whose floats are changed at random by at most a share of themselves."""
    rng = np.random.default_rng(seed)
    changed = dict(features)
    for source in inputs:
        dtype = source.tensor.dtype
        if "float" not in dtype or source.tensor.name not in features:
            continue
        kind = arrow_type(dtype)
        most = max(share, _COARSE.get(dtype, 0.0))

        def change(values: pa.Array, kind: pa.DataType = kind, most: float = most) -> pa.Array:
            if pa.types.is_dictionary(values.type):
                values = values.dictionary_decode()
            numbers = values.cast(kind).to_numpy(zero_copy_only=False)
            factors = 1.0 + rng.uniform(-most, most, len(numbers))
            moved = (numbers.astype(np.float64) * factors).astype(numbers.dtype)
            missing = values.is_null().to_numpy(zero_copy_only=False)
            return pa.array(moved, kind, mask=missing if missing.any() else None)

        changed[source.tensor.name] = map_values(features[source.tensor.name], change)
    return changed
