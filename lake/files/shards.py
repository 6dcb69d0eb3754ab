"""Partitions → shards: the work of one task, which reads, scores and stages.

The launcher makes shards from the footers of files. They depend on the files alone, not on runner
or workers, so that a second run makes the same shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scoreline.lake.elements import UNKNOWN_ROWS, Piece, Shard
from scoreline.lake.files.data_file import Footer
from scoreline.lake.files.partitions import Partition

# A shard is full at this number of rows, or of decoded bytes of the needed columns.
SHARD_ROWS = 524_288
SHARD_BYTES = 256 << 20


def plan_shards(
    partition: Partition, footers: Sequence[Footer], run_id: str, base_run_id: str
) -> list[Shard]:
    """Cut a partition into shards.

    Row groups keep the order of file names. A large file becomes several shards, each a run of its
    row groups. Small files share a shard. A row group is never cut. A file that is read whole is a
    shard of its own. A partition without rows becomes one shard without pieces, so that it is
    committed too.
    """
    if any(footer.is_whole for footer in footers):
        whole = [Piece(f.path, 0, 1, 0, UNKNOWN_ROWS, f.group_bytes[0]) for f in footers]
        return _number([[piece] for piece in whole], partition, run_id, base_run_id)
    runs: list[list[Piece]] = [[]]
    rows = size = 0
    for footer in footers:
        first_row = 0
        for group, group_rows in enumerate(footer.group_rows):
            full = rows + group_rows > SHARD_ROWS or size + footer.group_bytes[group] > SHARD_BYTES
            if full and runs[-1]:
                runs.append([])
                rows = size = 0
            if group_rows:
                _append(runs[-1], Piece(footer.path, group, 1, first_row, group_rows))
            rows, size = rows + group_rows, size + footer.group_bytes[group]
            first_row += group_rows
    return _number(runs, partition, run_id, base_run_id)


def _number(
    runs: Sequence[list[Piece]], partition: Partition, run_id: str, base_run_id: str
) -> list[Shard]:
    return [
        Shard(
            partition.path,
            run_id,
            base_run_id,
            index,
            len(runs),
            run,
            _sum_rows(piece.rows for piece in run),
        )
        for index, run in enumerate(runs)
    ]


def _sum_rows(rows: Iterable[int]) -> int:
    counts = list(rows)
    return UNKNOWN_ROWS if UNKNOWN_ROWS in counts else sum(counts)


def _append(run: list[Piece], piece: Piece) -> None:
    """Add a row group to a run of pieces; extend the last piece if the row group follows it."""
    if run and run[-1].path == piece.path:
        last = run[-1]
        if last.first_row_group + last.row_groups == piece.first_row_group:
            run[-1] = last._replace(row_groups=last.row_groups + 1, rows=last.rows + piece.rows)
            return
    run.append(piece)
