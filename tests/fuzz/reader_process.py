"""Reads files that the parent process names, as a job does, and answers what came of each.

A crash ends this process alone. Each line of its input is a request, each line of its output the
answer: `rows` with their number and digest, `error` with our message, or `unforeseen` with the
traceback of an exception that a job would not survive.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoreline.lake.elements import UNKNOWN_ROWS, Shard
from scoreline.lake.files.data_file import CorruptFile, Limits
from scoreline.lake.files.dataset import infer_schema, list_dataset
from scoreline.lake.files.formats import describe_files
from scoreline.lake.files.partitions import Partition
from scoreline.lake.files.read import DatasetSpec, read_shard
from scoreline.lake.files.shards import plan_shards
from scoreline.lake.storage import resolve
from scoreline.lake.table.staged_file import StagedFile
from scoreline.lake.table.types import storable_type

_MAX_MEMORY = 8 << 30
_LIMITS = Limits(1 << 20, 8 << 20)


class Unreadable(Exception):
    """What a job reports about a file or table that cannot be read."""


def read_dataset(root: str, types: list[list[str]], keys: list[str], batch_rows: int) -> pa.Table:
    """Return all rows of the first partition of a dataset, as a job reads and stages them.

    Raises:
      Unreadable, CorruptFile: ours, which a job reports.
    """
    file_system, path = resolve(root)
    try:
        listing = list_dataset(root, ())
    except (ValueError, OSError) as e:
        raise Unreadable(f"{root}: {e}") from e
    if listing.problems:
        raise Unreadable("; ".join(listing.problems))
    given = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in types]) or None
    partition = listing.partitions[0]
    if partition.problems:
        raise Unreadable("; ".join(partition.problems))
    try:
        schema = infer_schema(file_system, listing.format, [partition], given)
    except (ValueError, OSError) as e:
        raise Unreadable(f"{partition.files[0].path}: {e}") from e
    wanted = [name for name, _ in types]
    return _read(file_system, path, partition, listing.format, schema, wanted, keys, batch_rows)


def _read(
    file_system: Any,
    root: str,
    partition: Partition,
    data_format: str,
    schema: pa.Schema | None,
    wanted: list[str],
    keys: list[str],
    batch_rows: int,
) -> pa.Table:
    footers = list(describe_files(file_system, data_format, partition.files, schema))
    for footer in footers:
        if footer.error:
            raise Unreadable(footer.error)
    names = [name for name in footers[0].schema.names if name != "_example"]
    if not set(wanted) <= set(names):  # a job refuses it, before the first row
        raise Unreadable(f"{partition.files[0].path}: expected {wanted}, got {names}")
    fields = [footers[0].schema.field(name) for name in names]
    try:
        stored = pa.schema([(field.name, storable_type(field.type)) for field in fields])
    except ValueError as e:
        raise Unreadable(f"{partition.files[0].path}: {e}") from e
    texts = [field.name for field in fields if pa.types.is_string(field.type)]
    batches: list[pa.RecordBatch] = []
    for dictionaries in ([], texts):
        spec = DatasetSpec(
            root=root,
            format=data_format,
            columns=names,
            top_columns=names,
            batch_rows=batch_rows,
            dictionary_columns=dictionaries,
            schema=schema,
            limits=_LIMITS,
            is_inferred=not wanted and schema is not None,
            stored=names,
        )
        for shard in plan_shards(partition, footers, "a" * 15, ""):
            batches = list(read_shard(file_system, shard, spec))
            _stage(Path(root).parent, shard, batches, stored, keys)
            rows = sum(batch.num_rows for batch in batches)
            assert shard.rows in (UNKNOWN_ROWS, rows), "a job would publish another number of rows"
    tables = [pa.Table.from_batches([_in_one_zone(batch)]) for batch in batches]
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


def _in_one_zone(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return moments in UTC: files may show them in other time zones, and damage may name one."""
    for at, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            kind = pa.timestamp(field.type.unit, "UTC")
            batch = batch.set_column(at, field.name, batch.column(at).view(kind))
    return batch


def _stage(
    folder: Path, shard: Shard, batches: list[pa.RecordBatch], schema: pa.Schema, keys: list[str]
) -> None:
    """Write rows as scores are written; that may only fail in a way that a job reports."""
    file_system, root = resolve(str(folder))
    statistics = [key for key in keys if key in schema.names]
    file = StagedFile(file_system, root, "staged", 0, shard.run_id, schema, statistics=statistics)
    try:
        for batch in batches:
            file.write(batch)
        staged = file.close()
    except (OSError, pa.ArrowException) as e:
        file.abandon()
        raise Unreadable(f"{shard.pieces[0].path}: cannot write: {e}") from e
    (folder / staged.path).unlink()


def digest(table: pa.Table) -> str:
    """Return a digest of rows; values that Python cannot hold count as one."""
    found = hashlib.md5(usedforsecurity=False)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.combine_chunks().dictionary_decode()
        try:
            values = repr(column.to_pylist())
        except (ValueError, OverflowError, KeyError, OSError):
            values = "…"
        found.update(f"{name} {values}".encode(errors="surrogatepass"))
    return found.hexdigest()


def answer(request: dict[str, Any]) -> list[Any]:
    """Return what came of a request."""
    try:
        table = read_dataset(**request)
    except (Unreadable, CorruptFile) as e:
        return ["error", str(e)]
    except BaseException:
        return ["unforeseen", traceback.format_exc(limit=-2)]
    return ["rows", table.num_rows, digest(table), _texts_of(table)]


def _texts_of(table: pa.Table) -> list[str]:
    """Return the values of the column `s`, with "" for null."""
    if "s" not in table.column_names or not pa.types.is_string(table.schema.field("s").type):
        return []
    return [value or "" for value in table["s"].to_pylist()]


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
