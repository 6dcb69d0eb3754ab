"""How far an output of a variant differs from its parent's, row by row: all figures."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pyarrow as pa

from scoreline.models.compare.disagreement import NO_SPREAD, disagreement_of, unit_of
from scoreline.models.rounding import Scores, distances, join_scores, read_scores, spread_of

# A probability that was computed as a sum may exceed 1 by so much.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity:
    """How far one output of a variant differs from its parent's.

    Attributes:
      output: its column.
      changed_rows: rows with any other value.
      disagreement: see `disagreement_of`; None if it is infinite.
      max_difference, p999_difference: the maximum and the 99.9th percentile over rows of the
        largest |variant − parent| of the row, where both are finite; None without numbers.
      scale: root mean square of the variant's values over that of the parent's; None if unknown.
      shift: mean of variant − parent, in standard deviations of the parent's values; None if
        unknown.
      one_sided_rows: rows with a number that is finite in only one model.
      is_constant: whether all rows have one value, though the parent's differ.
      flipped_rows: rows on the other side of the threshold; None without one.
      improbable_rows: rows with a number outside of 0 to 1; None if they need not be probabilities.
    """

    output: str
    changed_rows: int
    disagreement: float | None
    max_difference: float | None = None
    p999_difference: float | None = None
    scale: float | None = None
    shift: float | None = None
    one_sided_rows: int = 0
    is_constant: bool = False
    flipped_rows: int | None = None
    improbable_rows: int | None = None

    @property
    def can_be_judged(self) -> bool:
        """Whether a metric can be computed from it."""
        return not (self.one_sided_rows or self.is_constant or self.improbable_rows)


def measure_parity(
    output: str,
    parent: pa.Array,
    variant: pa.Array,
    threshold: float | None = None,
    *,
    is_probability: bool = False,
) -> Parity:
    """Compare one output of a variant with its parent's, row by row.

    Args:
      output: its column.
      parent: its values.
      variant: its values of the same rows, of the same type.
      threshold: counts the rows that are at or above it in only one model; for one number per row.
      is_probability: counts the variant's rows that are none.
    """
    old, new = read_scores(parent), read_scores(variant)
    apart = distances(old, new)
    changed = (apart > 0) | _find_other_lengths(*_in_one_shape(old, new))
    disagreement = disagreement_of(parent, variant)
    flips = None if threshold is None else int(np.sum(~decisions_agree(old, new, threshold)))
    found = Parity(
        output=output,
        changed_rows=int(changed.sum()),
        disagreement=disagreement if math.isfinite(disagreement) else None,
        is_constant=is_constant(new) and not is_constant(old),
        flipped_rows=flips,
        improbable_rows=count_improbable(new) if is_probability else None,
    )
    if not old.is_float:
        return found
    there = np.isfinite(apart)
    scale, shift = _scale_and_shift(old, new)
    return dataclasses.replace(
        found,
        max_difference=float(apart[there].max()) if there.any() else None,
        p999_difference=float(np.quantile(apart[there], 0.999)) if there.any() else None,
        scale=scale,
        shift=shift,
        one_sided_rows=int(np.count_nonzero(~there)),
    )


def decisions_agree(parent: Scores, variant: Scores, threshold: float) -> np.ndarray:
    """Return which rows are on the same side of a threshold; for one number per row."""
    return np.asarray((parent.values >= threshold) == (variant.values >= threshold))


def count_improbable(scores: Scores) -> int:
    """Return how many rows have a finite number that is no probability, but for rounding."""
    wrong = (scores.values < -_ROUNDING) | (scores.values > 1 + _ROUNDING)
    return int(np.count_nonzero(wrong.reshape(len(wrong), -1).any(axis=1)))


def find_parity_problems(
    parity: Parity,
    rows: int,
    *,
    max_scale_error: float | None,
    max_shift: float | None,
    max_disagreement: float | None,
) -> list[str]:
    """Return what is wrong with an output by itself, a sentence each."""
    name = f"output '{parity.output}'"
    problems = []
    if parity.one_sided_rows:
        problems.append(
            f"{name}: expected finite numbers in the same rows as the parent's, got NaN or "
            f"infinite in only one of both in {parity.one_sided_rows:,} of {rows:,} rows"
        )
    if parity.is_constant:
        problems.append(f"{name}: expected scores that differ, got one value in {rows:,} rows")
    if parity.improbable_rows:
        problems.append(
            f"{name}: expected probabilities for the log loss, got others in "
            f"{parity.improbable_rows:,} of {rows:,} rows"
        )
    if problems:
        return problems  # the other figures follow from these
    scale, shift = (1.0 if parity.scale is None else parity.scale), parity.shift or 0.0
    if max_scale_error is not None and not abs(scale - 1.0) <= max_scale_error:
        problems.append(
            f"{name}: expected a scale within {max_scale_error:.2%} of the parent's, got a root "
            f"mean square of {scale:.4f} times the parent's"
        )
    if max_shift is not None and not abs(shift) <= max_shift:
        problems.append(
            f"{name}: expected a mean within {max_shift:g} standard deviations of the parent's, "
            f"got {shift:+.3g}"
        )
    if max_disagreement is not None:
        apart = math.inf if parity.disagreement is None else parity.disagreement
        if not apart <= max_disagreement:
            problems.append(
                f"{name}: expected a disagreement of at most {max_disagreement:g}, got {apart:.3g}"
            )
    return problems


def agreement_by_row(parent: Scores, variant: Scores) -> np.ndarray:
    """Return 1 − the disagreement of each row: the mean over its values.

    All numbers must be finite in both. Their unit is the standard deviation of the parent's, so
    that the mean over rows is 1 − `disagreement_of`, if all rows have the same number of values.
    """
    rows = len(parent.values)
    old, new = _in_one_shape(parent, variant)
    other = _find_other_lengths(old, new)
    held = np.ones(old.values.shape, bool) if old.held is None else old.held
    if parent.is_float:
        before, after = (scores.values.astype(float) for scores in (old, new))
        apart = np.abs(after - before)
        if apart[~other].any():
            apart /= unit_of(before[~other][held[~other]])
    else:
        apart = (old.values != new.values).astype(float)
    values = np.maximum(held.reshape(rows, -1).sum(axis=1), 1)
    agreement = 1.0 - np.where(held, apart, 0.0).reshape(rows, -1).sum(axis=1) / values
    return np.where(other, 0.0, agreement)


def _in_one_shape(old: Scores, new: Scores) -> tuple[Scores, Scores]:
    joined = join_scores([old, new])
    return joined.at(slice(0, len(old.values))), joined.at(slice(len(old.values), None))


def _find_other_lengths(old: Scores, new: Scores) -> np.ndarray:
    """Return which rows have lists of other lengths; both are in one shape."""
    if old.held is None or new.held is None:
        return np.zeros(len(old.values), bool)
    return np.asarray((old.held != new.held).reshape(len(old.values), -1).any(axis=1))


def is_constant(scores: Scores) -> bool:
    """Return whether no row differs from the others by more than rounding."""
    values = scores.values
    if not scores.is_float:
        return len(values) > 0 and bool((values == values[:1]).all())
    numbers = values[np.isfinite(values)]
    magnitude = float(np.mean(np.abs(numbers), dtype=float)) if numbers.size else 0.0
    return spread_of(scores) <= NO_SPREAD * magnitude


def _scale_and_shift(old: Scores, new: Scores) -> tuple[float | None, float | None]:
    if old.values.shape != new.values.shape:
        return None, None
    there = np.isfinite(old.values) & np.isfinite(new.values)
    before, after = (scores.values[there].astype(float) for scores in (old, new))
    if not before.size or not before.any():
        return None, None
    scale = math.sqrt(np.mean(after**2) / np.mean(before**2))
    return scale, float(np.mean(after - before)) / unit_of(before)
