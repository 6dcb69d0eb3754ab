"""Record batch → the columns a signature wants; rows that lack a value are set apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from models.signature import InputColumn
from models.tensors import fill_nulls


class DeadRows(NamedTuple):
    """Rows of a record batch that could not be scored, for one reason each.

    Attributes:
      rows: their positions in the record batch, increasing.
      reasons: one for each of them.
      step: the step at which they failed, by its label.
    """

    rows: Sequence[int]
    reasons: Sequence[str]
    step: str


class Features(NamedTuple):
    """What goes into the model.

    Attributes:
      columns: a column without nulls for each input, by the input's name.
      batch: the record batch's rows that have features; the whole batch when all have.
      positions: where those rows stood in the record batch; None when all have features.
      dead: the other rows.
    """

    columns: dict[str, pa.Array]
    batch: pa.RecordBatch
    positions: list[int] | None
    dead: DeadRows | None


def build_features(batch: pa.RecordBatch, inputs: Sequence[InputColumn]) -> Features:
    """Return the features of a record batch, nulls filled where the input has a fill value.

    A row with a null in an input without a fill value is dead; its neighbours are not touched. No
    column is copied when no null is found.
    """
    columns = {
        source.tensor.name: fill_nulls(batch.column(source.column), source) for source in inputs
    }
    with_nulls = [source for source in inputs if columns[source.tensor.name].null_count]
    if not with_nulls:
        return Features(columns, batch, None, None)
    valid = pc.is_valid(columns[with_nulls[0].tensor.name])
    for source in with_nulls[1:]:
        valid = pc.and_(valid, pc.is_valid(columns[source.tensor.name]))
    good = pc.indices_nonzero(valid)
    dead = pc.indices_nonzero(pc.invert(valid)).to_pylist()
    reasons = [_reason(row, with_nulls, columns) for row in dead]
    return Features(
        {name: column.take(good) for name, column in columns.items()},
        batch.take(good),
        good.to_pylist(),
        DeadRows(dead, reasons, "BuildFeatures"),
    )


def _reason(row: int, sources: Sequence[InputColumn], columns: dict[str, pa.Array]) -> str:
    missing = [source for source in sources if not columns[source.tensor.name][row].is_valid]
    names = ", ".join(f"'{source.tensor.name}' (column '{source.column}')" for source in missing)
    return (
        f"null for input {names}; give a value for nulls with --fill {missing[0].tensor.name}=VALUE"
    )
