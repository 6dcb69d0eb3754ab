"""Whether two designs gave the same scores: every key once, and its values equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

# The number of rows of a model call moves the last bits of a score.
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5


class Mismatch(AssertionError):
    """A design lost, doubled or changed rows; its numbers are worth nothing."""


def read_columns(folder: Path, columns: Sequence[str]) -> pa.Table:
    """Return columns of a data set or of scores; of a Delta table, what is committed."""
    if (folder / "_delta_log").exists():
        files = [Path(uri.removeprefix("file://")) for uri in DeltaTable(str(folder)).file_uris()]
    else:
        files = sorted(folder.rglob("*.parquet"))
    tables = [pq.ParquetFile(file).read(columns=list(columns)) for file in files]
    return pa.concat_tables([_plain(table.select(columns)) for table in tables])


def _plain(table: pa.Table) -> pa.Table:
    """Return a table without dictionaries: designs differ in how they store strings."""
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(field.type.value_type))
    return table


def check(
    what: str, dataset: Path, scores: Path, key: str, keep: Sequence[str], outputs: Sequence[str]
) -> pa.Table:
    """Check that scores hold each row of a data set once, kept columns unchanged.

    Args:
      what: whose scores these are, for the message.
      dataset: what was scored.
      scores: a folder of Parquet files, or a Delta table.
      key: the column that identifies a row, of integers.
      keep: columns that must be as in the data set.
      outputs: the other columns to return.

    Returns:
      key and outputs, sorted by key.

    Raises:
      Mismatch: a row is missing, doubled, unknown, or a kept column has other values.
    """
    wanted = read_columns(dataset, [key, *keep]).sort_by(key).combine_chunks()
    got = read_columns(scores, [key, *keep, *outputs]).sort_by(key).combine_chunks()
    if not got[key].equals(wanted[key]):
        distinct = pc.count_distinct(got[key]).as_py()
        missing = pc.sum(pc.invert(pc.is_in(wanted[key], got[key].combine_chunks()))).as_py()
        raise Mismatch(
            f"{what}: expected {wanted.num_rows} rows, each key once; got {got.num_rows} rows with "
            f"{distinct} distinct keys, {missing} keys of the data set missing"
        )
    for name in keep:
        if not got[name].equals(wanted[name].cast(got[name].type)):
            raise Mismatch(f"{what}: column {name} is not as in the data set")
    return got.select([key, *outputs])


def check_equal(what: str, scores: pa.Table, reference: pa.Table, key: str) -> None:
    """Check that scores agree with those of the reference for the same keys.

    Both are sorted by key; the reference may hold more rows.

    Raises:
      Mismatch: a key is unknown to the reference, or an output differs by more than rounding.
    """
    keys, known = scores[key].to_numpy(), reference[key].to_numpy()
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    if not np.array_equal(known[at], keys):
        raise Mismatch(f"{what}: scores hold keys that the reference does not hold")
    for name in scores.column_names:
        if name == key:
            continue
        ours, theirs = scores[name].to_numpy(), reference[name].to_numpy()[at]
        close = np.isclose(ours, theirs, rtol=_RELATIVE, atol=_ABSOLUTE)
        if not close.all():
            row = int(np.argmin(close))
            raise Mismatch(
                f"{what}: {int((~close).sum())} of {len(keys)} values of {name} differ from the "
                f"bare loop's; key {keys[row]} has {ours[row]}, the bare loop {theirs[row]}"
            )
