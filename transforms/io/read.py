"""Shard → record batches, whatever the format of its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
from pyarrow import fs

from transforms import metrics
from transforms.elements import BatchKey, Shard
from transforms.io.constants import Constant, add_constants
from transforms.io.files import CorruptFile, Limits, ReadSpec
from transforms.io.filesystems import resolve
from transforms.io.formats import FORMATS


def read_shard(
    file_system: fs.FileSystem, shard: Shard, read: ReadRecordBatches
) -> Iterator[pa.RecordBatch]:
    """Yield a shard's rows in order, in record batches of at most `batch_rows` rows, none empty.

    Raises:
      CorruptFile: a file cannot be read, or is not what it was when the shard was made.
    """
    spec = ReadSpec(
        columns=read.columns,
        batch_rows=read.batch_rows,
        may_lack=[constant.column for constant in read.constants],
        dictionary_columns=read.dictionary_columns,
        schema=read.schema or pa.schema([]),
        limits=read.limits,
    )
    batches = FORMATS[read.format].read(file_system, shard, spec)
    values = {c.column: c.value_in(shard.partition) for c in read.constants}
    for batch in batches:
        yield add_constants(batch, read.top_columns, values) if values else batch


class _ReadDoFn(beam.DoFn):
    def __init__(self, read: ReadRecordBatches) -> None:
        self._read = read

    def setup(self) -> None:
        self._fs, _ = resolve(self._read.root)
        self._metrics = metrics.BundleMetrics()

    def process(self, shard: Shard) -> Iterator[tuple[BatchKey, pa.RecordBatch]]:
        batches = read_shard(self._fs, shard, self._read)
        number = first_row = 0
        error = ""
        while True:
            try:
                with self._metrics.timed(metrics.READ_MS):
                    batch = next(batches, None)
            except CorruptFile as e:
                batch, error = None, str(e)
            if batch is None:
                break
            self._count(batch)
            yield BatchKey(shard, number, first_row, batch.num_rows, last=False), batch
            number, first_row = number + 1, first_row + batch.num_rows
        yield BatchKey(shard, number, first_row, 0, last=True, error=error), _NO_ROWS

    def finish_bundle(self) -> None:
        self._metrics.flush()

    def _count(self, batch: pa.RecordBatch) -> None:
        self._metrics.count(metrics.ROWS_READ, batch.num_rows)
        self._metrics.count(metrics.BYTES_READ, batch.nbytes)
        self._metrics.observe(metrics.BATCH_ROWS, batch.num_rows)


_NO_ROWS = pa.RecordBatch.from_arrays([], [])


@dataclasses.dataclass(kw_only=True, eq=False)
class ReadRecordBatches(beam.PTransform):
    """Read shards as keyed record batches: only the columns needed, in the shard's row order.

    Each shard ends with a batch marked `last`, which has no rows; when a file cannot be read its
    key carries the error, so that the partition fails and the others go on.

    Attributes:
      root: the dataset; only its file system matters here.
      columns: the columns to read.
      top_columns: the top-level columns that those begin in, in the same order.
      dictionary_columns: those to read as dictionaries.
      batch_rows: most rows of a record batch.
      format: the format of all files.
      schema: the types to read columns as, for files that do not say them.
      constants: columns to add where a file lacks them.
      limits: what may be decoded at once.
    """

    root: str
    columns: tuple[str, ...]
    top_columns: tuple[str, ...]
    dictionary_columns: tuple[str, ...]
    batch_rows: int
    format: str
    schema: pa.Schema | None
    constants: tuple[Constant, ...]
    limits: Limits

    def expand(
        self, shards: beam.PCollection[Shard]
    ) -> beam.PCollection[tuple[BatchKey, pa.RecordBatch]]:
        """Read each shard within one element, so that its batches stay together and in order."""
        return shards | "ReadParquet" >> beam.ParDo(_ReadDoFn(self)).with_output_types(
            tuple[BatchKey, pa.RecordBatch]
        )
