"""A few numbers of rows for the calls of a stream, whose polls have any number of records.

For each number of rows, TensorFlow's oneDNN compiles kernels and keeps them: 0.1 to 0.2 MB for a
small model, in each thread that runs its ops. A stream would collect them for hours. So a call is
filled up with copies of its last row, whose scores are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

# A call of this size or more is common: a full poll.
MAX_ROWS = 8192


def round_rows(rows: int, max_rows: int = MAX_ROWS) -> int:
    """Return a number of rows to fill up to: at most an eighth more, 8 of them in each octave.

    Args:
      rows: number of rows.
      max_rows: rows of a call; more rows are several calls, of which the last is filled up.
    """
    full, rest = divmod(rows, max_rows)
    step = 1 << max(0, (rest - 1).bit_length() - 4)
    return full * max_rows + min(max_rows, -(-rest // step) * step)


def fill_up(features: Mapping[str, pa.Array], rows: int, size: int) -> dict[str, pa.Array]:
    """Return columns of some rows with copies of their last row behind them."""
    at = pa.array(np.minimum(np.arange(size), rows - 1))
    return {name: column.take(at) for name, column in features.items()}
