"""What sender, collector and driver share: a file of times for each record, by its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scoreline.pipelines.load_test.judge.elements import Floats

# Numbers of records of one topic; a load with more is not offered. Files are sparse: only pages
# that are written take space.
MAX_RECORDS = 1 << 26


class Seen(NamedTuple):
    """What the collector saw of each record.

    Attributes:
      scored_s: when its score or dead letter could be read, by the clock of `time.time`; 0: never.
      is_dead: 1 if it was a dead letter.
      extra: number of further scores of the same record, up to 255.
      totals: the number of scores and dead letters so far, and of those without a known record.
    """

    scored_s: npt.NDArray[np.float64]
    is_dead: npt.NDArray[np.uint8]
    extra: npt.NDArray[np.uint8]
    totals: npt.NDArray[np.int64]


def open_seen(folder: Path) -> Seen:
    """Map the files of a collector, and create them if they do not exist."""
    return Seen(
        _map(folder / "scored_s", np.float64),
        _map(folder / "is_dead", np.uint8),
        _map(folder / "extra", np.uint8),
        _map(folder / "totals", np.int64, 2),
    )


def open_sent(folder: Path) -> npt.NDArray[np.float64]:
    """Map the file of a sender: when each record was sent; 0 for never."""
    return _map(folder / "sent_s", np.float64)


def _map(path: Path, dtype: type, count: int = MAX_RECORDS) -> npt.NDArray:
    size = np.dtype(dtype).itemsize * count
    with path.open("ab") as file:
        if file.tell() < size:
            file.truncate(size)
    return np.memmap(path, dtype, "r+", shape=(count,))


def scored_at(seen: Seen, numbers: slice) -> Floats:
    """Return when records were scored; NaN for never."""
    at = np.array(seen.scored_s[numbers])
    at[at == 0] = np.nan
    return at


def count_lost(scored_s: Floats, send_to: Sequence[int], committed: Mapping[int, int]) -> int:
    """Return the number of records without a score though the offsets after them are committed.

    A stream commits offsets after its scores are delivered. So these are not late, but lost. That a
    later record has a score proves nothing: scores go to several partitions, in any order.

    Args:
      scored_s: when each record was scored, from the first of the topic on; 0 for never.
      send_to: the partition of record `i` is `send_to[i % len(send_to)]`.
      committed: the committed offset by partition.
    """
    partition_of = np.resize(np.asarray(send_to), scored_s.size)
    return sum(
        int(np.count_nonzero(scored_s[partition_of == partition][:offset] == 0))
        for partition, offset in committed.items()
    )
