"""How far two models' scores of the same rows differ, as one number without a unit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.models.shapes import is_list

# An output whose spread is below this share of its magnitude counts as constant.
NO_SPREAD = 1e-6


class CommonRows(NamedTuple):
    """The rows of a batch that two models both scored.

    Attributes:
      in_old, in_new: their positions among the scored rows of each model.
      lost: number of rows that only the old model scored.
    """

    in_old: np.ndarray
    in_new: np.ndarray
    lost: int


def find_common_rows(by_old: np.ndarray, by_new: np.ndarray) -> CommonRows:
    """Return the rows that both models scored, from the positions in the batch of each one's."""
    both, in_old, in_new = np.intersect1d(by_old, by_new, assume_unique=True, return_indices=True)
    return CommonRows(in_old, in_new, len(by_old) - len(both))


def disagreement_of(old: pa.Array, new: pa.Array) -> float:
    """Return how far two models' values of one output differ, row by row; 0 if they are equal.

    For floating-point numbers this is the mean absolute difference, in standard deviations of the
    old values. Two unrelated models whose scores have the same distribution differ by about 1.1. If
    the share of numbers that are finite in only one model is larger, it counts instead. For all
    other types it is the share of values that differ. Nested values count one by one; if two lists
    differ in length, all their values differ.
    """
    if not len(old):
        return 0.0
    if is_list(old.type):
        same = pc.equal(pc.list_value_length(old), pc.list_value_length(new))
        apart = 1.0 - pc.mean(same).as_py()
        within = disagreement_of(old.filter(same).flatten(), new.filter(same).flatten())
        return float(apart + (1.0 - apart) * within if apart < 1.0 else 1.0)
    if pa.types.is_floating(old.type):
        return _standardized(
            *(np.asarray(column.to_numpy(zero_copy_only=False), float) for column in (old, new))
        )
    differ = pc.coalesce(pc.not_equal(old, new), pc.not_equal(pc.is_null(old), pc.is_null(new)))
    return float(pc.mean(differ).as_py())


def _standardized(old: np.ndarray, new: np.ndarray) -> float:
    finite = np.isfinite(old) & np.isfinite(new)
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    one_sided = float(np.mean(~finite & ~same))
    if not finite.any():
        return one_sided
    with np.errstate(over="ignore", invalid="ignore"):
        moved = float(np.mean(np.abs(new[finite] - old[finite])))
        spread = unit_of(old[finite])
    if not moved:
        return one_sided
    return max(one_sided, moved / spread) if 0 < spread < math.inf else math.inf


def unit_of(values: np.ndarray) -> float:
    """Return the unit of differences: the standard deviation, or more if it is nearly 0."""
    return max(float(np.std(values)), NO_SPREAD * float(np.mean(np.abs(values))))


class Apart(NamedTuple):
    """The output column of two models that differs most; see `disagreement_of`."""

    disagreement: float
    column: str


def find_largest_disagreement(
    old: pa.RecordBatch, new: pa.RecordBatch, columns: Iterable[str], lost: int = 0
) -> Apart:
    """Return the output column that differs most on the same rows.

    Args:
      old: the scores of one model, of the rows that both scored.
      new: the scores of the other.
      columns: the output columns.
      lost: number of further rows that only the old model scored. If their share is larger than
        the disagreement of any column, it is returned, with the column "".
    """
    worst = Apart(lost / max(old.num_rows + lost, 1), "")
    for column in columns:
        worst = max(worst, Apart(disagreement_of(old.column(column), new.column(column)), column))
    return worst
