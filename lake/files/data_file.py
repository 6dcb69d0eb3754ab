"""Data files: how to open them, and what is known before they are read.

Formats other than Parquet record neither the number of rows nor places to begin in the middle.
Therefore one task reads such a file whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import fs

from scoreline.lake.elements import UNKNOWN_ROWS
from scoreline.lake.files.names import is_gzip

_NO_SCHEMA = pa.schema([])
# Bytes read from each file while planning: a lake may have very many files.
HEAD_BYTES = 64 << 10
# Default limits for the decoded size of one value and of one record batch.
MAX_VALUE_BYTES, MAX_BATCH_BYTES = 64 << 20, 256 << 20
# Errors of reading a file that is missing, damaged, or changed since the run was planned.
READ_ERRORS = (OSError, pa.ArrowException, ValueError, KeyError)


class CorruptFile(ValueError):
    """A file that cannot be read; the message names it."""


class DataFile(NamedTuple):
    """A file of a partition: path within the file system, size, and modification time."""

    path: str
    size_bytes: int
    mtime_ns: int


class Footer(NamedTuple):
    """What is known about a file before it is read, or why it cannot be read.

    Attributes:
      path: the file.
      schema: its Arrow schema; None if it cannot be read.
      group_rows: the rows of each row group; one UNKNOWN_ROWS for a file that must be read whole.
      group_bytes: the uncompressed size of each row group, all columns; or the size of the file.
      error: why it cannot be read; "" if it can.
    """

    path: str
    schema: pa.Schema | None
    group_rows: tuple[int, ...] = ()
    group_bytes: tuple[int, ...] = ()
    error: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the file is read whole, because its number of rows is unknown."""
        return self.group_rows == (UNKNOWN_ROWS,)

    @property
    def rows(self) -> int:
        """The rows of the file, or UNKNOWN_ROWS."""
        return UNKNOWN_ROWS if self.is_whole else sum(self.group_rows)


class Limits(NamedTuple):
    """Maximum decoded bytes of one value and of one record batch."""

    value_bytes: int = MAX_VALUE_BYTES
    batch_bytes: int = MAX_BATCH_BYTES


class ReadSpec(NamedTuple):
    """What to read of a shard's files.

    Attributes:
      columns: columns to read; `parent.child` reads that field of a struct column.
      may_lack: columns that a file may lack; any other missing column is an error.
      dictionary_columns: string columns of Parquet to read as dictionaries.
      batch_rows: maximum rows of a record batch.
      schema: the types to read columns as, for files without a schema of their own.
      limits: maximum decoded bytes.
      csv_escape: the character that escapes quotation marks of CSV; "" if they are doubled.
      is_inferred: whether the schema was inferred from samples of text.
      unseen: columns of `may_lack` that the schema lacks, with the types of their values.
      stored: keys and kept columns, whose values a table must be able to hold.
    """

    columns: Sequence[str]
    batch_rows: int
    may_lack: Sequence[str] = ()
    dictionary_columns: Sequence[str] = ()
    schema: pa.Schema = _NO_SCHEMA
    limits: Limits = Limits()
    csv_escape: str = ""
    is_inferred: bool = False
    unseen: pa.Schema = _NO_SCHEMA
    stored: Sequence[str] = ()


def whole_file(file: DataFile, schema: pa.Schema) -> Footer:
    """Return the footer of a file that is read whole."""
    return Footer(file.path, schema, (UNKNOWN_ROWS,), (file.size_bytes,))


def unreadable(path: str, error: Exception) -> Footer:
    """Return the footer of a file that cannot be read."""
    return Footer(path, None, error=f"file {path} cannot be read: {error}")


def open_stream(file_system: fs.FileSystem, path: str) -> Any:
    """Open a file as a stream from its beginning; decompress it if its name ends in `.gz`."""
    return file_system.open_input_stream(path, "gzip" if is_gzip(path) else None)
