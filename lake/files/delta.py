"""A Delta table as input: its partitions and files in one version of its log."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow import fs

from scoreline.lake.files.data_file import DataFile
from scoreline.lake.files.partitions import (
    NULL_PARTITION,
    Listing,
    Partition,
    PartitionSpec,
    find_shape_problems,
    partition_path,
)
from scoreline.lake.storage import panics_as_errors, resolve, table_uri

LOG_FOLDER = "_delta_log"
_MAX_TEXT = 200
_ABSOLUTE = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(//(?P<host>[^/]*))?(?P<path>/.*)\Z")
# Names of one store in Hadoop and elsewhere.
_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
# Table features that do not change how live Parquet files are read. Deletion vectors are detected;
# all others (column mapping, type widening, variants…) are refused.
_HARMLESS = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "deletionVectors"}


class ForeignFile(ValueError):
    """A file of a table that is in another store; the message names it."""


def is_delta_table(path: str) -> bool:
    """Return whether a folder is a Delta table.

    Raises:
      ValueError: the URI's scheme is unknown.
    """
    return is_log(*resolve(path))


def is_log(file_system: fs.FileSystem, root: str) -> bool:
    """Return whether a folder has the log of a Delta table."""
    return file_system.get_file_info(f"{root}/{LOG_FOLDER}").type == fs.FileType.Directory


def list_delta_partitions(path: str, specs: Sequence[PartitionSpec]) -> Listing:
    """Find the partitions of a Delta table's latest version; files outside its log do not count.

    Values of partition columns are strings, as in the log. Content that cannot be read correctly is
    a problem of the whole table.
    """
    try:
        with panics_as_errors():
            table = DeltaTable(table_uri(path))
            problems = [f"--input: {path}: {problem}" for problem in _find_problems(table)]
            found = [] if problems else find_partitions(table, path, specs)
    except DeltaError as e:
        return Listing(
            [],
            [
                f"--input: the Delta table {path} cannot be read: {_first_line(e)}. If it has a "
                "feature that is not supported, copy it to a table without; else its log is "
                "damaged"
            ],
        )
    except ForeignFile as e:
        return Listing([], [f"--input: {path}: {e}"])
    return Listing(
        found,
        [*problems, *find_shape_problems(path, found)],
        version=table.version(),
        schema=pa.schema(table.schema().to_arrow()),
    )


def find_partitions(
    table: DeltaTable, path: str, specs: Sequence[PartitionSpec] = ()
) -> list[Partition]:
    """Return the partitions of one version of a Delta table, sorted by path.

    Raises:
      ForeignFile: a file of them is in another store.
    """
    files: dict[tuple[tuple[str, str], ...], list[DataFile]] = {}
    for values, action in _live_files(table):
        if not specs or any(spec.matches(values) for spec in specs):
            mtime_ns = action["modification_time"] * 1_000_000
            at = _locate(path, action["path"])
            files.setdefault(values, []).append(DataFile(at, action["size_bytes"], mtime_ns))
    return sorted(
        Partition(partition_path(values), values, tuple(sorted(held)), nulls, bool(nulls))
        for values, held in files.items()
        for nulls in [_null_problems(values)]
    )


def _first_line(error: Exception) -> str:
    """Return what an error says, without the trace that may follow."""
    text = next(iter(str(error).splitlines()), "").removeprefix("Kernel error: ").rstrip(". ")
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} …"


def _find_problems(table: DeltaTable) -> Iterator[str]:
    columns = table.metadata().partition_columns
    if not columns:
        yield (
            "expected a Delta table with partition columns, got one without: a partition is what "
            "is published in one piece. Write the table with partition columns"
        )
    kinds = {field.name: field.type for field in table.schema().fields}
    for column in columns:
        kind = str(getattr(kinds[column], "type", kinds[column]))
        if kind not in ("string", "byte", "short", "integer", "long", "date", "boolean"):
            yield (
                f"expected partition columns of text, whole numbers, dates or bool, got "
                f"'{column}' as {kind}"
            )
    protocol, configuration = table.protocol(), table.metadata().configuration
    features = set(protocol.reader_features or ())
    mapping = configuration.get("delta.columnMapping.mode", "none")
    if mapping != "none" or "columnMapping" in features:
        yield (
            f"expected a Delta table without column mapping, got mode '{mapping}': its files "
            "have other column names than the table. Copy it to a table without"
        )
    for feature in sorted(features - _HARMLESS - {"columnMapping"}):
        yield f"the Delta table uses {feature}, which is not supported. Copy it to a table without"
    if "deletionVectors" in features and _has_deletions(table):
        yield (
            "expected a Delta table without deletion vectors, got files with deleted rows in them. "
            "Rewrite them first, with REORG TABLE … APPLY (PURGE)"
        )


def _has_deletions(table: DeltaTable) -> bool:
    try:
        return any(batch.num_rows for batch in table.deletion_vectors())
    except (DeltaError, OSError, ValueError):
        return True  # there are deletion vectors, and they cannot be read


def _live_files(
    table: DeltaTable,
) -> Iterator[tuple[tuple[tuple[str, str], ...], dict[str, Any]]]:
    columns = table.metadata().partition_columns
    actions = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()
    for action in actions.to_pylist():
        yield tuple((name, _to_text(action[f"partition.{name}"])) for name in columns), action


def _locate(table: str, path: str) -> str:
    """Return the place of a file in the file system of its table.

    Paths in the log are relative, or absolute in a shallow clone, and escaped once more than file
    names.

    Raises:
      ForeignFile: the file is in another store.
    """
    _, root = resolve(table)
    absolute = _ABSOLUTE.match(path)
    if absolute is None:
        return unquote(path) if path.startswith("/") else f"{root}/{unquote(path)}"
    own = table.partition("://")[0].casefold() if "://" in table else "file"
    scheme = _SCHEMES.get(found := absolute["scheme"].casefold(), found)
    host, rest = absolute["host"] or "", unquote(absolute["path"])
    if scheme == _SCHEMES.get(own, own):
        if scheme != "file":
            return f"{unquote(host)}{rest}"
        if host in ("", "localhost"):
            return rest
    raise ForeignFile(
        f"expected files in the store of the table, got {path}, as in a shallow clone. Copy its "
        "files into the table (a deep clone)"
    )


def _to_text(value: Any) -> str:
    if value is None or value == "":  # Delta has no empty text in a partition column
        return NULL_PARTITION
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def _null_problems(values: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(
        f"expected a value, got a null for partition column '{column}'"
        for column, value in values
        if value == NULL_PARTITION
    )
