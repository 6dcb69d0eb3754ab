"""The live rows of a record batch, while the steps of scoring mark some rows as dead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from scoreline.lake.elements import DeadRows

Rows = TypeVar("Rows", pa.RecordBatch, pa.Array)


def all_but(rows: int, dead: Iterable[int]) -> np.ndarray:
    """Return the positions of all rows except the dead ones, in order."""
    keep = np.ones(rows, bool)
    keep[list(dead)] = False
    return np.flatnonzero(keep)


class Alive:
    """The positions of the live rows of a record batch. Rows can only be removed.

    Without dead rows, nothing is computed or copied.

    Attributes:
      rows: number of live rows.
    """

    def __init__(self, rows: int, dead: Sequence[DeadRows] = ()) -> None:
        """Start with all rows, except those that are already dead."""
        self.rows = rows
        self._at: np.ndarray | None = None
        if dead:
            self._at = all_but(rows, [row for group in dead for row in group.rows])
            self.rows = len(self._at)

    @property
    def positions(self) -> np.ndarray:
        """The positions of the live rows in the batch, in order."""
        return np.arange(self.rows) if self._at is None else self._at

    def drop(self, dead: Mapping[int, str], step: str) -> DeadRows:
        """Remove dead rows, and return them by their positions in the batch.

        Args:
          dead: reasons, by the index of a row among the rows that were alive until now.
          step: the step at which they failed.
        """
        numbers = sorted(dead)
        at = self.positions
        self._at = at[all_but(self.rows, numbers)]
        self.rows = len(self._at)
        return DeadRows(at[numbers].tolist(), [dead[number] for number in numbers], step)

    def take(self, whole: Rows) -> Rows:
        """Return the live rows of the batch, or of one of its columns."""
        return whole if self._at is None else whole.take(pa.array(self._at))
