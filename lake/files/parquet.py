"""Parquet files: footers, and shards → record batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from scoreline.lake.elements import Piece, Shard
from scoreline.lake.files.bounds import (
    RowGroups,
    decoded_bytes,
    find_large_value,
    plain_bytes,
    plan_batches,
    say_too_large,
    slice_batch,
)
from scoreline.lake.files.columns import top_columns
from scoreline.lake.files.data_file import READ_ERRORS, CorruptFile, Footer, ReadSpec, unreadable
from scoreline.lake.files.decode import Decoder, open_file
from scoreline.lake.files.footer import check_depth, check_readable, read_tail
from scoreline.lake.files.logical import true_schema
from scoreline.lake.files.stored import check_stored

# A batch joined from fewer parts than this has its decoded size computed more closely.
_PARTS = 256


def read_record_batches(
    file_system: fs.FileSystem, shard: Shard, spec: ReadSpec
) -> Iterator[pa.RecordBatch]:
    """Yield a shard's rows in order, in record batches of at most `spec.batch_rows` rows.

    Only the named columns are read, in the given order. Small row groups and files of equal types
    are joined to one batch. Rows with large values are read fewer at a time, so that no batch takes
    more than `spec.limits.batch_bytes` decoded. No batch is empty.

    Raises:
      CorruptFile: a file cannot be opened or decoded, has a different number of rows than its
        footer had when the shard was made, or has values larger than the limits.
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
    """Yield the rows of row groups, as many at a time as the limits allow.

    Raises:
      CorruptFile: a value is larger than the limits; the message names row group and column.
    """
    decoder = Decoder(source, spec)
    file = decoder.file
    tops = _tops(decoder.schema, spec.columns, spec.may_lack)
    numbers = range(piece.first_row_group, piece.first_row_group + piece.row_groups)
    for groups in plan_batches(source, file, numbers, spec):
        rows, batch_rows, is_done = 0, groups.batch_rows, False
        while not is_done:
            skip = rows
            for batch in decoder.decode(groups.numbers, batch_rows):
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                batch, skip = batch.slice(skip).select(tops), 0
                is_large = plain_bytes(batch) > spec.limits.batch_bytes
                if is_large and batch_rows > 1:
                    batch_rows = max(1, batch_rows // 8)  # the guess was wrong: continue with fewer
                    break
                _check_values(file, groups, rows, batch, spec)
                check_stored(batch, spec.stored)
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
    """Batches of one schema that wait to be joined, within the limits of a batch.

    A new batch is compared with the first one only: a shard may have ten thousand small files.
    """

    def __init__(self, spec: ReadSpec) -> None:
        self._max_rows, self._max_bytes = spec.batch_rows, spec.limits.batch_bytes
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> bool:
        """Add a batch and return True, or return False if it cannot be joined to the others."""
        size = self._weigh(batch)
        fits = not self._batches or (
            self._rows + batch.num_rows <= self._max_rows
            and self._bytes + size <= self._max_bytes
            and self._batches[0].schema.equals(batch.schema)
        )
        if fits:
            self._batches.append(batch)
            self._rows += batch.num_rows
            self._bytes += size
        return fits

    def join(self) -> Iterator[pa.RecordBatch]:
        """Yield the waiting batches as one, unless it is empty, and start anew."""
        batches, self._batches, self._rows, self._bytes = self._batches, [], 0, 0
        if len(batches) > 1:
            table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
            yield from (batch for batch in table.to_batches() if batch.num_rows)
        else:
            yield from (batch for batch in batches if batch.num_rows)

    def _weigh(self, batch: pa.RecordBatch) -> int:
        if batch.num_rows == self._max_rows:  # it is never joined
            return 0
        return decoded_bytes(batch, self._max_bytes // _PARTS)


def read_footer(file_system: fs.FileSystem, path: str) -> Footer:
    """Return a Parquet file's footer; for a damaged, encrypted or missing file, its error."""
    try:
        with file_system.open_input_file(path) as source:
            tail = read_tail(source)
        check_depth(tail)
        file = open_file(pa.BufferReader(tail))
        check_readable(tail, file.metadata.serialized_size)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        if any(group.num_rows < 0 or group.total_byte_size < 0 for group in groups):
            raise ValueError("its footer has a row group of a negative size")
        return Footer(
            path,
            true_schema(file, file.schema_arrow),
            tuple(group.num_rows for group in groups),
            tuple(group.total_byte_size for group in groups),
        )
    except READ_ERRORS as e:
        return unreadable(path, e)
