"""Record batch → the columns a signature wants; rows that lack a value are set apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.lake.elements import DeadRows
from scoreline.models.conversions import RAGGED
from scoreline.models.mapping import select_column
from scoreline.models.shapes import find_bad_rows, is_list
from scoreline.models.signature import InputColumn
from scoreline.models.tensors import prepare


class Features(NamedTuple):
    """What goes into the model.

    Attributes:
      columns: a column for each input, by its name; without nulls, unless the input is optional.
      batch: the record batch's rows that have features; the whole batch when all have.
      positions: where those rows stood in the record batch; None when all have features.
      dead: the other rows.
    """

    columns: dict[str, pa.Array]
    batch: pa.RecordBatch
    positions: list[int] | None
    dead: DeadRows | None


def build_features(batch: pa.RecordBatch, inputs: Sequence[InputColumn]) -> Features:
    """Return the features of a record batch: selected, converted, nulls filled.

    A row is dead when an input without a fill value is null there, or its lists do not fill the
    input's shape; its neighbours are not touched. No column is copied when all rows are good.
    """
    columns = {
        source.tensor.name: prepare(select_column(batch, source.column), source)
        for source in inputs
    }
    bad: dict[int, list[str]] = {}
    for source in inputs:
        column = columns[source.tensor.name]
        if column.null_count and not source.tensor.optional:
            for row in pc.indices_nonzero(pc.is_null(column)).to_pylist():
                bad.setdefault(row, []).append(f"null for {_name(source)}{_advice(column, source)}")
        if is_list(column.type) and source.conversion not in RAGGED:
            for row, problem in find_bad_rows(column, source).items():
                bad.setdefault(row, []).append(f"{_name(source)} {problem}")
    if not bad:
        return Features(columns, batch, None, None)
    dead = sorted(bad)
    keep = np.ones(batch.num_rows, bool)
    keep[dead] = False
    good = pa.array(np.flatnonzero(keep))
    return Features(
        {name: column.take(good) for name, column in columns.items()},
        batch.take(good),
        good.to_pylist(),
        DeadRows(dead, ["; ".join(bad[row]) for row in dead], "BuildFeatures"),
    )


def _name(source: InputColumn) -> str:
    return f"input '{source.tensor.name}' (column '{source.column}')"


def _advice(column: pa.Array, source: InputColumn) -> str:
    name = source.tensor.name
    if is_list(column.type):
        return f"; take nulls for empty lists with --pad {name}=VALUE"
    return f"; give a value for nulls with --fill {name}=VALUE"
