"""Compare data files with their names, the log and the commits' metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow import fs

from scoreline.lake.storage import read_checksum, resolve
from scoreline.lake.table.history import LivePartition
from scoreline.lake.table.layout import run_id_in
from scoreline.lake.table.letters import find_letter_files
from scoreline.lake.table.scores import LiveFile

_THREADS = 8


def verify_partitions(
    output: str, table: DeltaTable, partitions: Sequence[LivePartition]
) -> Iterator[tuple[str, list[str]]]:
    """Yield each partition with its problems. Reads every byte of its files.

    Checks that the files exist, with the size and rows of the log, the checksum of their names and
    the table's schema; that together they hold the rows that were scored; that rows in = scored +
    dead; and that the dead letters exist.
    """
    schema = _file_schema(table)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda live: _verify(output, live, schema), partitions)
        for live, problems in zip(partitions, found, strict=True):
            yield live.partition, problems


def describe_foreign(live: LivePartition) -> str:
    """Return what cannot be checked, because another program wrote it; "" if all can be."""
    by = f" ({', '.join(map(str, live.changes))})" if live.changes else ""
    if live.data_changes:
        return f"its rows were changed by another program{by}: the scores are not checked"
    if live.foreign_files:
        return (
            f"{live.foreign_files} of {len(live.files)} files were written by another program{by}: "
            "only their sizes, rows and columns are checked, not their scores"
        )
    return ""


def _file_schema(table: DeltaTable) -> pa.Schema:
    schema = pa.schema(table.schema().to_arrow())
    partition_columns = set(table.metadata().partition_columns)
    return pa.schema([field for field in schema if field.name not in partition_columns])


def _verify(output: str, live: LivePartition, schema: pa.Schema) -> list[str]:
    file_system, root = resolve(output)
    problems = [
        f"file {file.path}: {problem}"
        for file in live.files
        for problem in _verify_file(file_system, f"{root}/{file.path}", file, schema)
    ]
    rows_in, scored, dead = map(live.number, ("rows_in", "rows_scored", "rows_dead"))
    if scored is not None and scored != live.rows:
        problems.append(f"expected {scored} rows as its commit says, got {live.rows} in its files")
    if None not in (rows_in, scored, dead) and rows_in != scored + dead:  # type: ignore[operator]
        problems.append(f"expected rows in = scored + dead, got {rows_in} = {scored} + {dead}")
    letters = _count_dead_letters(output, live)
    if dead is not None and dead != letters:
        problems.append(f"expected {dead} dead letters as its commit says, got {letters}")
    return problems


def _verify_file(
    file_system: fs.FileSystem, path: str, file: LiveFile, schema: pa.Schema
) -> Iterator[str]:
    try:
        size, checksum = read_checksum(file_system, path)
    except OSError as e:
        yield f"cannot be read: {e}"
        return
    if size != file.size_bytes:
        yield f"expected {file.size_bytes} bytes as the log says, got {size}"
    if run_id_in(path) and f"-{checksum}.parquet" not in path:
        yield f"expected the checksum in its name, got {checksum}: its bytes were changed"
    try:
        with file_system.open_input_file(path) as source:
            footer = pq.read_metadata(source)
            found = footer.schema.to_arrow_schema()
    except (OSError, pa.ArrowException, ValueError) as e:
        yield f"cannot be read: {e}"
        return
    if footer.num_rows != file.rows:
        yield f"expected {file.rows} rows as the log says, got {footer.num_rows}"
    missing = [field.name for field in schema if field.name not in found.names]
    if missing:
        yield f"expected the table's columns, got none for {', '.join(missing)}"


def _count_dead_letters(output: str, live: LivePartition) -> int:
    file_system, paths = find_letter_files(output, live.partition, live.run_id)
    rows = 0
    for path in paths:
        with file_system.open_input_file(path) as source:
            rows += pq.read_metadata(source).num_rows
    return rows
