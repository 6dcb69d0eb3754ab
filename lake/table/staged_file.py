"""A Parquet file that appears atomically under its final name."""

from __future__ import annotations

import contextlib
import datetime
import json
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from scoreline.lake.kill_points import reach
from scoreline.lake.table.layout import staged_name

# Record batches are gathered into row groups of about this size before they are encoded.
_ROW_GROUP_ROWS = 262_144
_ROW_GROUP_BYTES = 32 << 20
# Longer strings are left out of Delta statistics: they would swell the log.
_MAX_STATISTIC_CHARS = 64


class Staged(NamedTuple):
    """A complete staged file. `stats` is Delta Lake's JSON, `checksum` is CRC32C in hex."""

    path: str
    size_bytes: int
    checksum: str
    rows: int
    stats: str


class StagedFile:
    """A Parquet file being written, in `root`/`folder`.

    Bytes go to a hidden file with a random name. `close` renames it to
    `part-<number>-<run id>-<checksum>.parquet`. The name identifies the work and the content, so
    two attempts at the same work never overwrite each other's file with different bytes.

    Attributes:
      path: the hidden file, until `close`.
    """

    def __init__(
        self,
        file_system: fs.FileSystem,
        root: str,
        folder: str,
        number: int,
        run_id: str,
        schema: pa.Schema,
        *,
        statistics: Sequence[str] = (),
    ) -> None:
        """Create the folder and the hidden file.

        Args:
          file_system: where to write.
          root: the root that `Staged.path` is relative to.
          folder: the folder below it.
          number: distinguishes the names of files of one run id.
          run_id: the identity of the work that these rows come from.
          schema: columns and types of the file; batches are cast to it, without loss.
          statistics: columns to keep minimum, maximum and null count of.

        Raises:
          OSError: the folder or file cannot be made.
        """
        self._fs, self._root, self._folder = file_system, root, folder
        self._number, self._run_id = number, run_id
        self._schema = schema
        self._statistics = list(statistics)
        self.path = f"{root}/{folder}/.part-{uuid.uuid4().hex}.tmp"
        self._fs.create_dir(f"{root}/{folder}", recursive=True)
        self._sink = _ChecksummedSink(self._fs.open_output_stream(self.path))
        self._writer: pq.ParquetWriter | None = None
        self._metadata: list[pq.FileMetaData] = []
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._rows = self._pending_rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch; they are encoded when a row group is full."""
        reach("writing")
        self._pending.append(batch)
        self._rows += batch.num_rows
        self._pending_rows += batch.num_rows
        self._pending_bytes += batch.nbytes
        if self._pending_rows >= _ROW_GROUP_ROWS or self._pending_bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> Staged:
        """Finish the file and give it its final name.

        Raises:
          OSError: it could not be written, for example because the disk is full.
        """
        self._flush()
        (self._writer or self._open_writer(self._schema)).close()
        self._sink.close()
        checksum = self._sink.checksum
        path = staged_name(self._folder, self._number, self._run_id, checksum)
        reach("written")
        self._fs.move(self.path, f"{self._root}/{path}")
        stats = _delta_stats(self._rows, self._metadata[0], self._statistics)
        return Staged(path, self._sink.size_bytes, checksum, self._rows, stats)

    def abandon(self) -> None:
        """Stop writing and remove the hidden file, if the file system allows it."""
        if self._writer is not None:
            self._writer.is_open = False  # otherwise garbage collection would write its footer
        for step in (self._sink.close, lambda: self._fs.delete_file(self.path)):
            with contextlib.suppress(OSError, pa.ArrowException):
                step()

    def _flush(self) -> None:
        if not self._pending:
            return
        first = self._pending[0].schema
        writer = self._writer or self._open_writer(_written_schema(self._schema, first))
        batches = [_conform(batch, writer.schema) for batch in self._pending]
        writer.write_table(pa.Table.from_batches(batches), row_group_size=_ROW_GROUP_ROWS)
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0

    def _open_writer(self, schema: pa.Schema) -> pq.ParquetWriter:
        # Dictionary encoding is for strings only: for floats it costs four times as much.
        strings = [field.name for field in schema if _is_text(field.type)]
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="snappy",
            use_dictionary=strings or False,
            write_statistics=self._statistics or False,
            store_schema=False,
            metadata_collector=self._metadata,
        )
        return self._writer


class _ChecksummedSink:
    """A writable file that counts bytes and keeps their CRC32C."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._crc = 0
        self.size_bytes = 0

    @property
    def checksum(self) -> str:
        return f"{self._crc:08x}"

    @property
    def closed(self) -> bool:
        return self._stream.closed

    def write(self, data: Any) -> int:
        data = bytes(data)
        self._crc = google_crc32c.extend(self._crc, data)
        self.size_bytes += len(data)
        self._stream.write(data)
        return len(data)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def _is_text(data_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    return str(data_type) in ("string", "large_string", "binary", "large_binary")


def _written_schema(schema: pa.Schema, first: pa.Schema) -> pa.Schema:
    """Return the schema to write: dictionary columns of the first batch may stay encoded."""
    fields = [
        pa.field(field.name, first.field(i).type)
        if pa.types.is_dictionary(first.field(i).type)
        and first.field(i).type.value_type == field.type
        else field
        for i, field in enumerate(schema)
    ]
    return pa.schema(fields)


def _conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if batch.schema.equals(schema, check_metadata=False):
        return batch
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        try:
            columns.append(_cast(column, field.type))
        except pa.ArrowException as e:
            raise pa.ArrowInvalid(f"column '{field.name}', stored as {field.type}: {e}") from e
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pa.Array, data_type: pa.DataType) -> pa.Array:
    if column.type == data_type:
        return column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_dictionary(data_type):
        return column.cast(data_type.value_type).dictionary_encode().cast(data_type)
    return column.cast(data_type)


def _delta_stats(rows: int, metadata: pq.FileMetaData, columns: Sequence[str]) -> str:
    """Return statistics in the form of the Delta protocol ("Per-file Statistics")."""
    stats: dict[str, Any] = {"numRecords": rows}
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    at = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    for name in columns:
        groups = [
            metadata.row_group(g).column(at[name]).statistics
            for g in range(metadata.num_row_groups)
            if name in at
        ]
        if not groups or not all(group is not None and group.has_null_count for group in groups):
            continue
        nulls[name] = sum(group.null_count for group in groups)
        try:
            bounds = [value for g in groups if g.has_min_max for value in (g.min, g.max)]
        except (OverflowError, ValueError):  # a time that Python cannot hold, such as infinity
            continue
        if bounds and all(_is_plain_statistic(value) for value in bounds):
            least[name], most[name] = _json_value(min(bounds)), _json_value(max(bounds))
    return json.dumps({**stats, "minValues": least, "maxValues": most, "nullCount": nulls})


def _is_plain_statistic(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_STATISTIC_CHARS
    if isinstance(value, datetime.datetime):
        return False
    return isinstance(value, int | datetime.date) and not isinstance(value, bool)


def _json_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date) else value
