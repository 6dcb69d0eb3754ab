"""Compares the scores of two designs: every key once, with equal values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

# The last bits of a score depend on the number of rows of a model call.
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5


class Mismatch(AssertionError):
    """A design lost, duplicated or changed rows, so its measurement is invalid."""


def read_rows(folder: Path, key: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a data set or scores, sorted by key; for a Delta table, the committed rows."""
    if (folder / "_delta_log").exists():
        files = [Path(uri.removeprefix("file://")) for uri in DeltaTable(str(folder)).file_uris()]
    else:
        files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise Mismatch(f"{folder}: expected Parquet files, got none")
    tables = [_plain(pq.ParquetFile(file).read(columns=columns)) for file in files]
    return pa.concat_tables(tables).sort_by(key).combine_chunks()


def _plain(table: pa.Table) -> pa.Table:
    """Return a table without dictionaries, because designs store strings differently."""
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(field.type.value_type))
    return table


def check(what: str, dataset: Path, output: Path, key: str, keep: Sequence[str]) -> pa.Table:
    """Check that scores hold each row of a data set once, with unchanged kept columns.

    Args:
      what: name of the scores in messages.
      dataset: the data set that was scored.
      output: a folder of Parquet files, or a Delta table.
      key: the column that identifies a row.
      keep: columns that must equal those of the data set.

    Returns:
      The key and the other columns of the scores, sorted by key.

    Raises:
      Mismatch: a row is missing, duplicated or unknown, or a kept column differs.
    """
    wanted = read_rows(dataset, key, [key, *keep])
    got = read_rows(output, key)
    if not got[key].equals(wanted[key]):
        missing = pc.invert(pc.is_in(wanted[key], got[key].combine_chunks()))
        raise Mismatch(
            f"{what}: expected {wanted.num_rows} rows, each key once; got {got.num_rows} rows with "
            f"{pc.count_distinct(got[key])} distinct keys; {pc.sum(missing)} keys are missing"
        )
    for name in keep:
        if not got[name].equals(wanted[name].cast(got[name].type)):
            raise Mismatch(f"{what}: expected column {name} of the data set, got others")
    return got.drop_columns(list(keep))


def check_equal(what: str, scores: pa.Table, reference: pa.Table, key: str) -> None:
    """Check that scores equal those of the reference for the same keys.

    Both must be sorted by key. The reference may hold more rows.

    Raises:
      Mismatch: the columns differ, the reference lacks a key, a text differs, or a number differs
        by more than rounding.
    """
    if sorted(scores.column_names) != sorted(reference.column_names):
        raise Mismatch(
            f"{what}: expected columns {reference.column_names}, got {scores.column_names}"
        )
    keys, known = scores[key].to_numpy(), reference[key].to_numpy()
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    if not np.array_equal(known[at], keys):
        raise Mismatch(f"{what}: expected keys of the reference, got others")
    for name in set(scores.column_names) - {key}:
        ours, theirs = scores[name].to_numpy(), reference[name].to_numpy()[at]
        if ours.dtype.kind == "f":
            same = np.isclose(ours, theirs, rtol=_RELATIVE, atol=_ABSOLUTE)
        else:
            same = ours == theirs
        if not same.all():
            row = int(np.argmin(same))
            raise Mismatch(
                f"{what}: expected {theirs[row]} in {name} of key {keys[row]}, got {ours[row]}; "
                f"{int((~same).sum())} of {len(keys)} values differ from the reference"
            )
