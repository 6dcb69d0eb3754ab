"""Partitions → shards: what one task reads, scores and stages.

Shards are made where the pipeline is launched, from Parquet footers. They depend on the files
alone, not on runner or workers, so that a second run makes the same shards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from transforms.elements import Piece, Shard
from transforms.io.parquet import READ_ERRORS
from transforms.io.partitions import Partition

# A shard is closed when it holds this much: rows, or bytes of the needed columns once decoded.
SHARD_ROWS = 524_288
SHARD_BYTES = 256 << 20
_FOOTER_THREADS = 16


class Footer(NamedTuple):
    """What a Parquet file's footer says, or why it cannot be read.

    Attributes:
      path: the file.
      schema: its Arrow schema; None when it cannot be read.
      group_rows: the rows of each row group.
      group_bytes: the uncompressed size of each row group, all columns.
      error: why it cannot be read; "" when it can.
    """

    path: str
    schema: pa.Schema | None
    group_rows: tuple[int, ...] = ()
    group_bytes: tuple[int, ...] = ()
    error: str = ""

    @property
    def rows(self) -> int:
        """The rows of the file."""
        return sum(self.group_rows)


def read_footer(file_system: fs.FileSystem, path: str) -> Footer:
    """Return a file's footer; a file that is damaged or gone gives its error, and names itself."""
    try:
        with file_system.open_input_file(path) as source:
            file = pq.ParquetFile(source)
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            return Footer(
                path,
                file.schema_arrow,
                tuple(group.num_rows for group in groups),
                tuple(group.total_byte_size for group in groups),
            )
    except READ_ERRORS as e:
        return Footer(path, None, error=f"file {path} cannot be read: {e}")


def read_footers(file_system: fs.FileSystem, paths: Sequence[str]) -> Iterable[Footer]:
    """Yield the footers of files, in order, reading several at a time."""
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        yield from pool.map(lambda path: read_footer(file_system, path), paths)


def plan_shards(
    partition: Partition, footers: Sequence[Footer], run_id: str, base_run_id: str
) -> list[Shard]:
    """Cut a partition into shards.

    Row groups follow each other in the order of file names. A large file gives several shards,
    each a run of its row groups; small files share one. A row group is never cut. A partition
    without rows gives one shard without pieces, so that it is committed too.
    """
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
    return [
        Shard(
            partition.path,
            run_id,
            base_run_id,
            index,
            len(runs),
            run,
            sum(piece.rows for piece in run),
        )
        for index, run in enumerate(runs)
    ]


def _append(run: list[Piece], piece: Piece) -> None:
    """Add a row group to a run of pieces, joined to the last when it follows on it."""
    if run and run[-1].path == piece.path:
        last = run[-1]
        if last.first_row_group + last.row_groups == piece.first_row_group:
            run[-1] = last._replace(row_groups=last.row_groups + 1, rows=last.rows + piece.rows)
            return
    run.append(piece)


@dataclasses.dataclass(kw_only=True, eq=False)
class MatchShards(beam.PTransform):
    """Give the shards to score, spread over the workers.

    Names are shuffled here, so that rows never need to be.
    """

    shards: Sequence[Shard]

    def expand(self, more: beam.pvalue.PBegin | beam.PCollection[Shard]) -> beam.PCollection[Shard]:
        """Create the shards, add those that come in, and break fusion behind them."""
        pipeline = more.pipeline
        created = pipeline | "CreateShards" >> beam.Create(
            self.shards, reshuffle=False
        ).with_output_types(Shard)
        if isinstance(more, beam.PCollection):
            created = (created, more) | "AddShards" >> beam.Flatten()
        return created | "SpreadShards" >> beam.Reshuffle()
