"""Columns that a run knows without the files: partition columns, and `--allow_missing`.

They are added to each record batch, so that later steps see a column like any other. A partition
column has the value of the folder (or of Delta's log), also where the files have another one, as in
Spark, DuckDB, Polars and Trino.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.lake.files.partitions import parse_partition_path

# How a null is said.
NULL = "null"
_WHOLE = re.compile(r"[+-]?[0-9]+\Z")


class Constant(NamedTuple):
    """A column that is added if a file lacks it; a partition column replaces that of a file.

    Attributes:
      column: its name.
      data_type: its type.
      text: its value, parsed as that type; `null` for a null, and `"null"` for that text; None for
        the value of the partition column of that name.
    """

    column: str
    data_type: pa.DataType
    text: str | None = None

    @property
    def is_partition(self) -> bool:
        """Whether it is a partition column."""
        return self.text is None

    def value_in(self, partition: str) -> pa.Scalar:
        """Return the value for a partition, given by its hive path.

        Raises:
          ValueError: the text is not a value of the type.
        """
        if self.text == NULL:
            return pa.scalar(None, self.data_type)
        if self.text is not None:
            is_quoted = self.text == f'"{NULL}"' and pa.types.is_string(self.data_type)
            return parse_text(NULL if is_quoted else self.text, self.data_type)
        return parse_text(dict(parse_partition_path(partition))[self.column], self.data_type)


def parse_text(text: str, data_type: pa.DataType) -> pa.Scalar:
    """Parse a text as a value of a type.

    Decimal fractions become the nearest float. Integers must be held exactly.

    Raises:
      ValueError: the text is not a value of the type.
    """
    try:
        value = pa.scalar(text, pa.string()).cast(data_type)
    except (pa.ArrowException, ValueError) as e:
        raise ValueError(f"expected a {data_type}, got '{text}'") from e
    is_integer, is_float = pa.types.is_integer(data_type), pa.types.is_floating(data_type)
    is_whole = bool(_WHOLE.match(text))
    wrong = is_integer and not is_whole  # such as 0x1F
    if (is_integer or is_float) and is_whole:
        wrong = value.as_py() != int(text)
    if is_float and math.isinf(value.as_py()):
        wrong = "inf" not in text.lower()
    if wrong:
        raise ValueError(f"expected a {data_type}, got '{text}'")
    return value


def add_constants(
    batch: pa.RecordBatch,
    columns: Sequence[str],
    values: Mapping[str, pa.Scalar],
    replaced: Collection[str] = (),
) -> pa.RecordBatch:
    """Add the columns that a batch lacks, and return all in the order of `columns`.

    Args:
      batch: rows of one file.
      columns: the top-level columns of the result.
      values: the values to add, by name.
      replaced: columns whose values replace those of the batch.
    """
    known = set(batch.schema.names) - set(replaced)
    if known.issuperset(values):
        return batch
    return pa.RecordBatch.from_arrays(
        [
            batch.column(name) if name in known else _repeat(values[name], batch.num_rows)
            for name in columns
        ],
        list(columns),
    )


def _repeat(value: pa.Scalar, rows: int) -> pa.Array:
    if not value.is_valid:
        return pa.nulls(rows, value.type)
    if pa.types.is_string(value.type):
        return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value]))
    return pa.repeat(value, rows)
