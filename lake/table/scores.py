"""The scores table, a Delta table: open, create and check it, and read its contents.

The names of live data files contain the run id, and so tell which work is committed, also after a
rollback. If another tool has rewritten the files (compaction), the table's record of application
transactions tells it, and for a part of the files the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaProtocolError, TableNotFoundError
from deltalake.schema import Schema
from deltalake.transaction import create_table_with_add_actions
from pyarrow import fs

from scoreline.lake.files.partitions import NULL_PARTITION, parse_partition_path
from scoreline.lake.storage import list_folder, panics_as_errors, resolve, table_uri
from scoreline.lake.table.actions import application_of
from scoreline.lake.table.layout import run_id_in
from scoreline.lake.table.log import find_changes, path_of, read_commits

if TYPE_CHECKING:
    import pyarrow.dataset  # it imports pandas, which takes longer than reading most logs

# The run id of a partition that another program wrote.
FOREIGN_RUN = "foreign"
# Commits record which model scored a partition, from which input. Keep them for ten years.
_LOG_RETENTION = "interval 3650 days"


def open_table(output: str) -> DeltaTable | None:
    """Return the table at a path, or None if nothing is there yet.

    Raises:
      ValueError: the path holds something else.
    """
    file_system, path = resolve(output)
    info = file_system.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        return None
    if info.type == fs.FileType.File:
        raise ValueError(f"--output: expected a Delta table or nothing, got {output}: a file")
    try:
        with panics_as_errors():
            return DeltaTable(table_uri(output))
    except TableNotFoundError as e:
        if not list_folder(file_system, path):
            return None
        raise ValueError(
            f"--output: expected a Delta table or nothing, got {output}: a folder with other "
            "content. Give another path, or empty the folder"
        ) from e


def open_scores(uri: str) -> pyarrow.dataset.Dataset:
    """Return the published rows of a table of scores, as an Arrow dataset.

    It is the table's newest version when it is opened: rows of what is committed, with the
    partition columns, and nothing of what is staged. Each partition is there whole or not at all.

    Arrow reads it by its own file system: by default `DeltaTable.to_pyarrow_dataset()` reads
    through one written in Python. Arrow's threads may still be in that when the interpreter exits.
    The process then aborts or hangs after it has done its work (apache/arrow issue 34314).

    Args:
      uri: the table's path, or its URI (`gs://…`).

    Raises:
      deltalake.exceptions.TableNotFoundError: there is no table at the path.
      ValueError: another program has switched on a feature that Arrow would read wrong rows with.
    """
    file_system, path = resolve(uri)
    table = DeltaTable(table_uri(uri))
    try:
        return table.to_pyarrow_dataset(filesystem=fs.SubTreeFileSystem(path, file_system))
    except DeltaProtocolError as e:
        features = ", ".join(sorted(table.protocol().reader_features or ())) or "such features"
        raise ValueError(
            f"expected a table without {features}, got {uri}, in which another program has "
            "switched that on: Arrow would read wrong rows. Read it with Spark, or remove that "
            "there: REORG TABLE … APPLY (PURGE), then ALTER TABLE … DROP FEATURE"
        ) from e


def table_schema(schema: pa.Schema, partition_columns: Sequence[str]) -> pa.Schema:
    """Return the table's schema: the columns of its files, then partition columns as strings."""
    partitions = [pa.field(column, pa.string()) for column in partition_columns]
    return pa.schema([*schema, *partitions])


def find_table_problems(
    table: DeltaTable, schema: pa.Schema, partition_columns: Sequence[str]
) -> list[str]:
    """Return why scores of a schema cannot be committed to a table; none if they can."""
    found = table.metadata().partition_columns
    if found != list(partition_columns):
        return [
            f"--output: expected a table partitioned by {_names(partition_columns)}, as the "
            f"input is, got one by {_names(found)}. Give another path"
        ]
    has = {field.name: field.type.to_json() for field in table.schema().fields}
    wanted = Schema.from_arrow(table_schema(schema, partition_columns))
    wants = {field.name: field.type.to_json() for field in wanted.fields}
    return [
        f"--output: expected column '{name}' as {wants.get(name, 'no column')}, the table has "
        f"{has.get(name, 'no such column')}. Give another path, or the same columns"
        for name in {**wants, **has}
        if wants.get(name) != has.get(name)
    ]


def _names(columns: Sequence[str]) -> str:
    return ", ".join(columns) or "no column"


def create_table(
    output: str,
    schema: pa.Schema,
    partition_columns: Sequence[str],
    log_retention: str | None = _LOG_RETENTION,
) -> None:
    """Create the empty table, unless another run has just created the same one.

    Args:
      output: its path or URI.
      schema: columns and types of its files.
      partition_columns: the partition columns, in addition to those.
      log_retention: how long to keep its history; None for Delta's default of 30 days.

    Raises:
      OSError: the path cannot be written.
      ValueError: another run has just created it, with another schema.
    """
    try:
        create_table_with_add_actions(
            table_uri(output),
            Schema.from_arrow(table_schema(schema, partition_columns)),
            [],
            mode="ignore",
            partition_by=list(partition_columns),
            configuration={"delta.logRetentionDuration": log_retention} if log_retention else {},
            # Without this, the second of two runs that create it at once would overwrite the
            # metadata of the first, as version 1.
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except CommitFailedError:
        problems = find_table_problems(DeltaTable(table_uri(output)), schema, partition_columns)
        if problems:
            raise ValueError("; ".join(problems)) from None


class LiveFile(NamedTuple):
    """A data file of the table: its path below the root, size in bytes, and rows.

    The path is the file's own. The log has it escaped as in a URI.
    """

    path: str
    size_bytes: int
    rows: int


def live_files(
    table: DeltaTable, partitions: Iterable[str] | None = None
) -> dict[str, list[LiveFile]]:
    """Return the data files of each partition, by hive path. Reads the log, no data file.

    Args:
      table: the table, as last read.
      partitions: the hive paths of the wanted partitions; None for all. Those without files are
        left out.
    """
    columns = table.metadata().partition_columns
    # Not `pa.table`, which imports pandas to find out whether this is a data frame of it.
    actions = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()
    held = [actions[f"partition.{column}"].to_pylist() for column in columns]
    wanted = None if partitions is None else set(partitions)
    found = range(actions.num_rows) if wanted is None else _find_values(held, wanted)
    paths, sizes, rows = (
        _pick(actions[name], found) for name in ("path", "size_bytes", "num_records")
    )
    files: dict[str, list[LiveFile]] = {}
    for at, file, size, count in zip(found, paths, sizes, rows, strict=True):
        path = path_of(columns, {column: held[i][at] for i, column in enumerate(columns)})
        if wanted is None or path in wanted:
            files.setdefault(path, []).append(LiveFile(unquote(file), size, count or 0))
    return files


def _pick(column: pa.ChunkedArray, found: Sequence[int]) -> list[Any]:
    if len(found) < len(column) // 8:  # one by one, each costs eight times as much
        return [column[at].as_py() for at in found]
    values = column.to_pylist()
    return [values[at] for at in found]


def _find_values(held: Sequence[Sequence[str | None]], partitions: Iterable[str]) -> Sequence[int]:
    """Return the files whose value of each column is that of some of the partitions.

    A table may have very many files. Nothing else of them becomes a Python object.
    """
    wanted: list[set[str | None]] = [set() for _ in held]
    for partition in partitions:
        for some, (_, text) in zip(wanted, parse_partition_path(partition), strict=True):
            some.add(None if text == NULL_PARTITION else text)
    found: Sequence[int] = range(len(held[0]))
    for values, some in zip(held, wanted, strict=True):
        found = [at for at in found if values[at] in some]
    return found


def committed_runs(table: DeltaTable, partitions: Iterable[str]) -> dict[str, str]:
    """Return the run id of the committed scores of some partitions, by hive path.

    Partitions without scores are left out.
    """
    held = live_files(table, partitions)
    return runs_of(table, {path: [file.path for file in files] for path, files in held.items()})


def committed_run(table: DeltaTable, partition: str) -> str:
    """Return the run id of a partition's scores in the table as last read; "" for none."""
    return committed_runs(table, [partition]).get(partition, "")


def runs_of(table: DeltaTable, files: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the run id of each partition's live files; FOREIGN_RUN if they are not of one run.

    Files that another program wrote from those of a run still count as that run: compacted ones,
    and changed ones. Files with rows that another program added do not.
    """
    runs, mixed = {}, {}
    for partition, paths in files.items():
        named = {run_id_in(path) for path in paths}
        runs[partition] = FOREIGN_RUN
        if len(named) == 1 and "" not in named:
            runs[partition] = named.pop()
        elif "" in named and len(named) <= 2:
            version = table.transaction_version(application_of(partition))
            run_id = "" if version is None else f"{version:015x}"
            if named == {""} and run_id:
                runs[partition] = run_id
            elif run_id in named - {""}:
                mixed[partition] = run_id
    changes = find_changes(table, read_commits(table), mixed) if mixed else {}
    for partition, run_id in mixed.items():
        found = changes.get(partition)
        if found and all(change.kind != "added" for change in found):
            runs[partition] = run_id
    return runs
