"""Record batch → the input columns of a signature, without the rows that lack a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.lake.elements import DeadRows
from scoreline.models.conversions import RAGGED, LossyValue
from scoreline.models.mapping import select_column
from scoreline.models.shapes import find_bad_rows, is_list
from scoreline.models.signature import InputColumn
from scoreline.models.tensors import count_saturated, find_lossy_rows, prepare
from scoreline.transforms.alive import Alive


class Features(NamedTuple):
    """What goes into the model.

    Attributes:
      columns: a column for each input, by its name; without nulls, unless the input is optional.
      alive: the rows of the record batch that these columns hold.
      dead: the other rows; None when all have features.
      saturated: number of values beyond the range of their quantized inputs.
    """

    columns: dict[str, pa.Array]
    alive: Alive
    dead: DeadRows | None
    saturated: int = 0


def build_features(batch: pa.RecordBatch, inputs: Sequence[InputColumn]) -> Features:
    """Return the features of a record batch: selected, converted, with nulls replaced.

    A row is dead if an input without a fill value is null, if a named conversion would change its
    value, or if its lists do not fill the input's shape. Other rows are not affected. No column is
    copied if all rows are good.
    """
    columns: dict[str, pa.Array] = {}
    bad: dict[int, list[str]] = {}
    saturated = 0
    for source in inputs:
        column, lost = _prepare(select_column(batch, source.column), source)
        columns[source.tensor.name] = column
        for row in lost:
            what = f"has a value that {source.asked}(…) cannot hold"
            bad.setdefault(row, []).append(f"{_name(source)} {what}")
        if column.null_count and not source.tensor.optional:
            for row in pc.indices_nonzero(pc.is_null(column)).to_pylist():
                if row not in lost:
                    why = f"null for {_name(source)}{_advice(column, source)}"
                    bad.setdefault(row, []).append(why)
        if is_list(column.type) and source.conversion not in RAGGED:
            for row, problem in find_bad_rows(column, source).items():
                if row not in lost:
                    bad.setdefault(row, []).append(f"{_name(source)} {problem}")
        if source.tensor.quantized is not None:
            saturated += count_saturated(column, source.tensor)
    alive = Alive(batch.num_rows)
    if not bad:
        return Features(columns, alive, None, saturated)
    dead = alive.drop({row: "; ".join(why) for row, why in bad.items()}, "BuildFeatures")
    taken = {name: alive.take(column) for name, column in columns.items()}
    return Features(taken, alive, dead, saturated)


def _prepare(array: pa.Array, source: InputColumn) -> tuple[pa.Array, frozenset[int]]:
    """Return a prepared column, and the rows whose values a conversion would change."""
    try:
        return prepare(array, source), frozenset()
    except LossyValue:
        lost = find_lossy_rows(array, source)
    kept = np.arange(len(array))
    mask = np.isin(kept, lost)
    return prepare(array.take(pa.array(kept, mask=mask)), source), frozenset(lost)


def _name(source: InputColumn) -> str:
    return f"input '{source.tensor.name}' (column '{source.column}')"


def _advice(column: pa.Array, source: InputColumn) -> str:
    name = source.tensor.name
    if is_list(column.type):
        fill = f", or all their values as one with --fill {name}=VALUE"
        is_fixed = source.tensor.row_values is not None and source.conversion not in RAGGED
        return f"; treat nulls as empty lists with --pad {name}=VALUE{fill if is_fixed else ''}"
    return f"; set a value for nulls with --fill {name}=VALUE"
