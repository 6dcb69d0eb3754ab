"""Which rows of a record batch are left, while one step after another finds some of them dead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from scoreline.lake.elements import DeadRows

Rows = TypeVar("Rows", pa.RecordBatch, pa.Array)


def all_but(rows: int, dead: Iterable[int]) -> np.ndarray:
    """Return the positions of so many rows but for the dead ones, in order."""
    keep = np.ones(rows, bool)
    keep[list(dead)] = False
    return np.flatnonzero(keep)


class Alive:
    """The rows of a record batch that are alive: their positions in it, which only become fewer.

    As long as no row is dead, nothing is computed and nothing is copied.

    Attributes:
      rows: how many rows are alive.
    """

    def __init__(self, rows: int, dead: Sequence[DeadRows] = ()) -> None:
        """Begin with so many rows, but for those that are known to be dead."""
        self.rows = rows
        self._at: np.ndarray | None = None
        if dead:
            self._at = all_but(rows, [row for group in dead for row in group.rows])
            self.rows = len(self._at)

    @property
    def positions(self) -> np.ndarray:
        """Where the rows that are alive are in the batch, in order."""
        return np.arange(self.rows) if self._at is None else self._at

    def drop(self, dead: Mapping[int, str], step: str) -> DeadRows:
        """Take dead rows out, and return them by their positions in the batch.

        Args:
          dead: reasons, by the number of a row among those that were alive until now.
          step: the step at which they failed.
        """
        numbers = sorted(dead)
        at = self.positions
        self._at = at[all_but(self.rows, numbers)]
        self.rows = len(self._at)
        return DeadRows(at[numbers].tolist(), [dead[number] for number in numbers], step)

    def take(self, whole: Rows) -> Rows:
        """Return the rows of the batch, or of a column of it, that are alive."""
        return whole if self._at is None else whole.take(pa.array(self._at))
