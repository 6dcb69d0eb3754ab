"""Columns that files lack and a run knows: partition columns, and `--allow_missing`.

They are added to each record batch, so that all that follows sees a column like any other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.lake.files.partitions import parse_partition_path

_WHOLE = re.compile(r"[+-]?[0-9]+\Z")


class Constant(NamedTuple):
    """A column that is added where a file lacks it.

    Attributes:
      column: its name.
      data_type: its type.
      text: its value, to be parsed as that type; None for the partition's value of that name.
    """

    column: str
    data_type: pa.DataType
    text: str | None = None

    def value_in(self, partition: str) -> pa.Scalar:
        """Return the value in a partition, given by its hive path.

        Raises:
          ValueError: the text is no value of the type.
        """
        if self.text is not None:
            return parse_text(self.text, self.data_type)
        return parse_text(dict(parse_partition_path(partition))[self.column], self.data_type)


def parse_text(text: str, data_type: pa.DataType) -> pa.Scalar:
    """Return the value of a type that a text says exactly.

    Decimal fractions become the nearest float; whole numbers must be held exactly.

    Raises:
      ValueError: the text is no value of the type.
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
    batch: pa.RecordBatch, columns: Sequence[str], values: dict[str, pa.Scalar]
) -> pa.RecordBatch:
    """Return a batch with the named columns that it lacks, all in the order of `columns`.

    Args:
      batch: what was read of one file.
      columns: the top-level columns that are wanted.
      values: what to add, by name.
    """
    if not set(values) - set(batch.schema.names):
        return batch
    return pa.RecordBatch.from_arrays(
        [
            batch.column(name)
            if name in batch.schema.names
            else _repeat(values[name], batch.num_rows)
            for name in columns
        ],
        list(columns),
    )


def _repeat(value: pa.Scalar, rows: int) -> pa.Array:
    if pa.types.is_string(value.type):
        return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value]))
    return pa.repeat(value, rows)
