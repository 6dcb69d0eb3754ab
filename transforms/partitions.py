"""The input of a user's own job: the partitions that are left to do, and their shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from scoreline.lake.elements import Shard
from scoreline.lake.files.columns import top_columns
from scoreline.lake.files.data_file import Footer
from scoreline.lake.files.dataset import choose_batch_rows, infer_schema, list_dataset
from scoreline.lake.files.formats import describe_files
from scoreline.lake.files.missing import Constant
from scoreline.lake.files.partitions import (
    Listing,
    Partition,
    PartitionSpec,
    columns_of,
    run_id_of,
)
from scoreline.lake.files.read import DatasetSpec
from scoreline.lake.files.shards import plan_shards
from scoreline.lake.storage import resolve
from scoreline.lake.table.scores import FOREIGN_RUN, committed_runs, open_table
from scoreline.transforms.wanted import refuse

# Increase it when the same arguments select other rows.
_FORMAT = 1


class Wanted(NamedTuple):
    """The part of a dataset to read, with the fields of `scoreline.ReadPartitions`."""

    path: str
    partitions: tuple[str, ...]
    columns: tuple[str, ...] | None
    table: str | None
    work: Mapping[str, object]
    replace: bool
    batch_rows: int | None


@dataclasses.dataclass(frozen=True)
class ToRead:
    """The work that is left to do.

    Attributes:
      shards: the shards to read.
      dataset: the spec to read them.
      fingerprints: fingerprints of the partitions, by path.
      committed: paths of partitions that are left out, because the table has their scores.
    """

    shards: list[Shard]
    dataset: DatasetSpec
    fingerprints: dict[str, str]
    committed: list[str]


def find_work(wanted: Wanted) -> ToRead:
    """List a dataset and plan its shards. Reads names and footers, but no rows.

    Raises:
      ValueError: partitions, files, columns or the table are wrong; lists all problems.
      OSError: the dataset or the table cannot be read.
    """
    try:
        specs = [PartitionSpec(text) for text in wanted.partitions]
    except ValueError as e:
        refuse([str(e)])
    listing = list_dataset(wanted.path, specs)
    problems = [*listing.problems, *(text for p in listing.partitions for text in p.problems)]
    if not listing.partitions and not problems:
        which = f" matches {', '.join(wanted.partitions)}" if wanted.partitions else ""
        problems.append(f"expected partitions column=value in {wanted.path}, got none that{which}")
    if problems:
        refuse(problems)
    file_system, _ = resolve(wanted.path)
    partitions = listing.partitions
    schema = infer_schema(file_system, listing.format, partitions)
    files = [file for partition in partitions for file in partition.files]
    footers = list(describe_files(file_system, listing.format, files, schema))
    read = _check_columns(wanted, listing, footers)
    held, runs = _find_runs(wanted, partitions)
    left = [p for p in partitions if _is_left(held.get(p.path, ""), runs[p.path], wanted.replace)]
    by_path = {footer.path: footer for footer in footers}
    shards = [
        shard
        for p in left
        for shard in plan_shards(
            p, [by_path[file.path] for file in p.files], runs[p.path], held.get(p.path, "")
        )
    ]
    names = {p.path for p in left}
    return ToRead(
        shards,
        read._replace(batch_rows=wanted.batch_rows or choose_batch_rows(footers), schema=schema),
        {p.path: p.fingerprint for p in partitions},
        [p.path for p in partitions if p.path not in names],
    )


def _is_left(held: str, run: str, replace: bool) -> bool:
    return held in ("", FOREIGN_RUN) or (replace and held != run)


def _find_runs(
    wanted: Wanted, partitions: Sequence[Partition]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the run ids in the table, and those of the requested work."""
    work = {"read": _FORMAT, "columns": wanted.columns, "work": dict(wanted.work)}
    runs = {p.path: run_id_of(p, work) for p in partitions}
    try:
        table = open_table(wanted.table) if wanted.table else None
    except ValueError as e:
        refuse([str(e)])
    return (committed_runs(table, runs) if table else {}), runs


def _check_columns(wanted: Wanted, listing: Listing, footers: Sequence[Footer]) -> DatasetSpec:
    """Return the spec to read files, after the check that columns exist."""
    problems = [footer.error for footer in footers if footer.error]
    schemas = list(dict.fromkeys(f.schema.remove_metadata() for f in footers if f.schema))
    held = columns_of(listing.partitions)
    first = schemas[0] if schemas else pa.schema([])
    columns = wanted.columns or tuple(first.names)
    added = {c: _type_of(c, schemas) for c in columns if c in held}
    for column in columns:
        lacking = sum(top_columns(schema, [column])[0] not in schema.names for schema in schemas)
        if lacking and column not in added:
            problems.append(
                f"columns: {lacking} of {len(schemas)} kinds of files in {wanted.path} lack "
                f"'{column}'; the first has {', '.join(first.names)}"
            )
    if problems:
        refuse(problems)
    whole = pa.schema([field for field in first if field.name not in added])
    for column, kind in added.items():
        whole = whole.append(pa.field(column, kind))
    return DatasetSpec(
        root=wanted.path,
        format=listing.format,
        columns=columns,
        top_columns=top_columns(whole, columns),
        batch_rows=0,
        constants=[Constant(column, kind) for column, kind in added.items()],
        is_inferred=True,
        # A pipeline may copy any column: a code such as 007 must not become a number.
        stored=columns if listing.format == "csv" else (),
    )


def _type_of(column: str, schemas: Sequence[pa.Schema]) -> pa.DataType:
    """Return the type of a partition column: that of the files if all have it, else text."""
    held = {schema.field(column).type if column in schema.names else None for schema in schemas}
    kind = next(iter(held), None)
    return kind if len(held) == 1 and kind is not None else pa.string()
