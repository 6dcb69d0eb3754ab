"""Shard of Parquet files → record batches, and scored record batches → staged Parquet files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from models.columns import top_columns
from transforms import metrics
from transforms.elements import BatchKey, Piece, Receipt, Shard
from transforms.io.decoded_size import (
    RowGroups,
    decoded_bytes,
    find_large_value,
    plain_bytes,
    plan_batches,
    say_too_large,
    slice_batch,
)
from transforms.io.files import READ_ERRORS, CorruptFile, ReadSpec
from transforms.io.filesystems import resolve
from transforms.io.layout import safe_folder
from transforms.io.receipts import write_receipt
from transforms.io.staged_file import StagedFile

# A batch that is put together is weighed more closely where it would have fewer parts than this.
_PARTS = 256


def read_record_batches(
    file_system: fs.FileSystem, shard: Shard, spec: ReadSpec
) -> Iterator[pa.RecordBatch]:
    """Yield a shard's rows in order, in record batches of at most `spec.batch_rows` rows.

    Only the named columns are read, in the given order. Small row groups and files are joined to
    batches as far as their types agree, and rows of large values read fewer at a time, so that no
    batch takes more than `spec.limits.batch_bytes` decoded. No batch is empty.

    Raises:
      CorruptFile: a file cannot be opened or decoded, holds another number of rows than its footer
        promised when the shard was made, or values larger than the limits.
    """
    waiting = _Waiting(spec)
    for piece in shard.pieces:
        rows = 0
        try:
            with file_system.open_input_file(piece.path) as source:
                for batch in _read_piece(source, piece, spec):
                    rows += batch.num_rows
                    if not waiting.add(batch):
                        yield from waiting.join()
                        waiting.add(batch)
        except CorruptFile as e:
            raise CorruptFile(f"file {piece.path}, {e}") from e
        except READ_ERRORS as e:
            raise CorruptFile(f"file {piece.path} cannot be read: {e}") from e
        if rows != piece.rows:
            raise CorruptFile(
                f"file {piece.path} changed while it was read: expected {piece.rows} rows, "
                f"got {rows}"
            )
    yield from waiting.join()


def _read_piece(source: Any, piece: Piece, spec: ReadSpec) -> Iterator[pa.RecordBatch]:
    """Yield the rows of row groups, as many at a time as may be decoded.

    Raises:
      CorruptFile: a value is larger than the limits; names row group and column.
    """
    file = pq.ParquetFile(source, read_dictionary=list(spec.dictionary_columns))
    tops = _tops(file.schema_arrow, spec.columns, spec.may_lack)
    numbers = range(piece.first_row_group, piece.first_row_group + piece.row_groups)
    for groups in plan_batches(source, file, numbers, spec):
        rows, batch_rows, is_done = 0, groups.batch_rows, False
        while not is_done:
            skip = rows
            for batch in file.iter_batches(
                batch_rows, row_groups=groups.numbers, columns=list(spec.columns), use_threads=False
            ):
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                batch, skip = batch.slice(skip).select(tops), 0
                is_large = plain_bytes(batch) > spec.limits.batch_bytes
                if is_large and batch_rows > 1:
                    batch_rows = max(1, batch_rows // 8)  # the guess was wrong: go on with fewer
                    break
                _check_values(file, groups, rows, batch, spec)
                rows += batch.num_rows
                yield from slice_batch(batch, spec.limits.batch_bytes)
            else:
                is_done = True


def _check_values(
    file: pq.ParquetFile, groups: RowGroups, first_row: int, batch: pa.RecordBatch, spec: ReadSpec
) -> None:
    large = find_large_value(batch, spec.limits.value_bytes)
    if large is None:
        return
    row, column, size = large
    row += first_row
    for number in groups.numbers:
        if row < file.metadata.row_group(number).num_rows:
            break
        row -= file.metadata.row_group(number).num_rows
    raise CorruptFile(f"row group {number}, {say_too_large(f'row {row}', column, size, spec)}")


def _tops(schema: pa.Schema, columns: Sequence[str], may_lack: Sequence[str]) -> list[str]:
    tops = top_columns(schema, columns)
    return [name for name in tops if name in schema.names or name not in may_lack]


class _Waiting:
    """Batches of one schema that wait to be joined, as many rows and bytes as a batch may have.

    A batch is held against the first alone: a shard may have ten thousand files of few rows.
    """

    def __init__(self, spec: ReadSpec) -> None:
        self._most_rows, self._most_bytes = spec.batch_rows, spec.limits.batch_bytes
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> bool:
        """Have a batch wait and return True, or return False: it cannot be joined to the others."""
        size = self._weigh(batch)
        fits = not self._batches or (
            self._rows + batch.num_rows <= self._most_rows
            and self._bytes + size <= self._most_bytes
            and self._batches[0].schema.equals(batch.schema)
        )
        if fits:
            self._batches.append(batch)
            self._rows += batch.num_rows
            self._bytes += size
        return fits

    def join(self) -> Iterator[pa.RecordBatch]:
        """Yield what waits, as one batch unless it is empty, and wait for others."""
        batches, self._batches, self._rows, self._bytes = self._batches, [], 0, 0
        if len(batches) > 1:
            table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
            yield from (batch for batch in table.to_batches() if batch.num_rows)
        else:
            yield from (batch for batch in batches if batch.num_rows)

    def _weigh(self, batch: pa.RecordBatch) -> int:
        if batch.num_rows == self._most_rows:  # nothing is joined to it
            return 0
        return decoded_bytes(batch, self._most_bytes // _PARTS)


class ShardWriter:
    """Stages the scored batches of one shard, and watches whether its key increases."""

    def __init__(self, file: StagedFile, shard: Shard, integer_key: str | None) -> None:
        """Write to a file; `integer_key` names the key column when it is one of integers."""
        self._file, self._shard, self._key = file, shard, integer_key
        self._next_batch = 0
        self._rows_in = 0
        self._keys: list[int] | None = [] if integer_key else None

    def write(self, key: BatchKey, batch: pa.RecordBatch) -> None:
        """Add the next batch.

        Raises:
          ValueError: it is not the next: a runner that reorders or splits a shard's batches would
            lose rows, so this must never pass.
        """
        if key.number != self._next_batch:
            raise ValueError(
                f"Expected batch {self._next_batch} of shard {self._shard.number} of "
                f"{self._shard.partition}, got batch {key.number}: the runner must keep the steps "
                "ReadRecordBatches, Score and StageParquet fused"
            )
        self._next_batch += 1
        self._rows_in += key.rows
        if batch.num_rows:
            self._watch_keys(batch)
            self._file.write(batch)

    def _watch_keys(self, batch: pa.RecordBatch) -> None:
        if self._keys is None:
            return
        column = batch.column(self._key)
        if column.null_count:
            self._keys = None
            return
        keys = column.to_numpy()
        follows = not self._keys or int(keys[0]) > self._keys[1]
        if not follows or not np.all(keys[1:] > keys[:-1]):
            self._keys = None
            return
        self._keys = [self._keys[0] if self._keys else int(keys[0]), int(keys[-1])]

    def close(self) -> Receipt:
        """Finish the file and return the shard's receipt."""
        staged = self._file.close()
        first, last = self._keys or (0, 0)
        return Receipt.of(
            self._shard,
            path=staged.path,
            size_bytes=staged.size_bytes,
            checksum=staged.checksum,
            stats=staged.stats,
            rows_in=self._rows_in,
            rows_scored=staged.rows,
            keys_increase=self._keys is not None,
            first_key=first,
            last_key=last,
        )

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.abandon()


class _StageDoFn(beam.DoFn):
    def __init__(self, stage: StageParquet) -> None:
        self._stage = stage

    def setup(self) -> None:
        self._fs, self._root = resolve(self._stage.output)
        self._metrics = metrics.BundleMetrics()
        self._open: dict[tuple[str, int], ShardWriter] = {}
        self._failed: dict[tuple[str, int], str] = {}

    def start_bundle(self) -> None:
        self.teardown()  # what a failed bundle left open

    def process(self, element: tuple[BatchKey, pa.RecordBatch]) -> Iterator[Receipt]:
        key, batch = element
        at = (key.shard.partition, key.shard.number)
        with self._metrics.timed(metrics.STAGE_MS):
            try:
                receipt = self._write(at, key, batch)
            except (OSError, pa.ArrowException) as e:
                self._fail(at, f"cannot write to {self._stage.output}: {e}")
                receipt = None
        if key.last:
            yield receipt or Receipt.of(key.shard, error=self._failed.pop(at, ""))

    def _write(self, at: tuple[str, int], key: BatchKey, batch: pa.RecordBatch) -> Receipt | None:
        if key.error:
            self._fail(at, key.error)
        if at in self._failed:
            return None
        if at not in self._open:
            self._open[at] = self._open_writer(key.shard)
        self._open[at].write(key, batch)
        if not key.last:
            return None
        receipt = self._open[at].close()
        del self._open[at]
        write_receipt(self._stage.output, receipt)
        self._metrics.count(metrics.BYTES_STAGED, receipt.size_bytes)
        return receipt

    def _open_writer(self, shard: Shard) -> ShardWriter:
        folder = safe_folder(shard.partition)
        statistics = self._stage.statistics
        file = StagedFile(
            self._fs, self._root, folder, shard, self._stage.schema, statistics=statistics
        )
        return ShardWriter(file, shard, self._stage.integer_key)

    def _fail(self, at: tuple[str, int], reason: str) -> None:
        if at in self._open:
            self._open.pop(at).abandon()
        self._failed[at] = reason

    def finish_bundle(self) -> None:
        self._metrics.flush()
        if self._open:
            unfinished = sorted(f"{partition} shard {index}" for partition, index in self._open)
            raise ValueError(
                f"Expected every shard to end within its bundle, got no end of {unfinished}: the "
                "runner must keep the steps ReadRecordBatches, Score and StageParquet fused"
            )

    def teardown(self) -> None:
        for writer in self._open.values():
            writer.abandon()
        self._open.clear()
        self._failed.clear()


@dataclasses.dataclass(kw_only=True, eq=False)
class StageParquet(beam.PTransform):
    """Write each shard's scores to one Parquet file of the table, which no reader sees yet.

    Gives a Receipt for each shard. It says that the file is whole, or why there is none. Staging
    the same shard twice leaves the same file, or a second one beside it; a commit takes one.

    Attributes:
      output: the table's root.
      schema: columns and types of the files.
      statistics: columns that Delta Lake may skip files by.
      integer_key: the key column, when there is one only and it holds integers.
    """

    output: str
    schema: pa.Schema
    statistics: tuple[str, ...]
    integer_key: str | None

    def expand(
        self, scores: beam.PCollection[tuple[BatchKey, pa.RecordBatch]]
    ) -> beam.PCollection[Receipt]:
        """Write within the bundle that holds a shard's batches."""
        return scores | "WriteParquet" >> beam.ParDo(_StageDoFn(self)).with_output_types(Receipt)
