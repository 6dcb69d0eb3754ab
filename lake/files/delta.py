"""A Delta table as input: its partitions and files in one version of its log."""

from __future__ import annotations

import datetime
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
from scoreline.lake.storage import resolve, table_uri

LOG_FOLDER = "_delta_log"
# Table features that do not change how live Parquet files are read. Deletion vectors are detected;
# all others (column mapping, type widening, variants…) are refused.
_HARMLESS = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "deletionVectors"}


def is_delta_table(path: str) -> bool:
    """Return whether a folder is a Delta table.

    Raises:
      ValueError: the URI's scheme is unknown.
    """
    file_system, root = resolve(path)
    return file_system.get_file_info(f"{root}/{LOG_FOLDER}").type == fs.FileType.Directory


def list_delta_partitions(path: str, specs: Sequence[PartitionSpec]) -> Listing:
    """Find the partitions of a Delta table's latest version; files outside its log do not count.

    Values of partition columns are strings, as in the log. Content that cannot be read correctly is
    a problem of the whole table.
    """
    try:
        table = DeltaTable(table_uri(path))
        problems = [f"--input: {path}: {problem}" for problem in _find_problems(table)]
    except DeltaError as e:
        return Listing(
            [],
            [
                f"--input: the Delta table {path} cannot be read: {e}. Tables with column mapping, "
                "or with features that deltalake does not know, are not supported: copy it to a "
                "table without"
            ],
        )
    if problems:
        return Listing([], problems, version=table.version())
    _, root = resolve(path)
    files: dict[tuple[tuple[str, str], ...], list[DataFile]] = {}
    for values, file in _live_files(table, root):
        if not specs or any(spec.matches(values) for spec in specs):
            files.setdefault(values, []).append(file)
    found = sorted(
        Partition(partition_path(values), values, tuple(sorted(held)), nulls, bool(nulls))
        for values, held in files.items()
        for nulls in [_null_problems(values)]
    )
    return Listing(found, find_shape_problems(path, found), version=table.version())


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
    table: DeltaTable, root: str
) -> Iterator[tuple[tuple[tuple[str, str], ...], DataFile]]:
    columns = table.metadata().partition_columns
    actions = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()
    for action in actions.to_pylist():
        values = tuple((column, _to_text(action[f"partition.{column}"])) for column in columns)
        # Paths in the log are escaped once more than file names.
        path = f"{root}/{unquote(action['path'])}"
        mtime_ns = action["modification_time"] * 1_000_000
        yield values, DataFile(path, action["size_bytes"], mtime_ns)


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
