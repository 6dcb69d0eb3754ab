"""JSON values of records → columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.lake.files.absent import find_absent
from scoreline.lake.files.json_lines import parse_lines
from scoreline.lake.files.json_values import find_problem
from scoreline.lake.files.missing import Constant


class BadRows(ValueError):
    """Values that cannot be decoded, among others that can.

    Attributes:
      rows: the reason of each, by its position.
    """

    def __init__(self, rows: dict[int, str]) -> None:
        """Keep the reasons."""
        super().__init__(next(iter(rows.values())))
        self.rows = rows


class JsonDecoder:
    """Decodes one JSON object per value with Arrow."""

    def __init__(
        self,
        schema: pa.Schema,
        required: Sequence[str] = (),
        missing: Sequence[Constant] = (),
    ) -> None:
        """Set the columns.

        Args:
          schema: the columns.
          required: the keys that each object must have; `parent.child` is a key of an object.
          missing: the values of other keys that an object lacks; without one, it is a null.
        """
        self._schema, self._required = schema, required
        self._missing = {constant.column: constant.value_in("") for constant in missing}
        self._parse([b"{}"])  # fails now if Arrow's parser lacks a type

    def decode(self, values: Sequence[bytes]) -> list[pa.Array]:
        """Return the columns; see `Decoder`.

        Raises:
          BadRows: values lack a required key.
        """
        columns = dict(zip(self._schema.names, self._parse(values), strict=True))
        absent = find_absent(values, columns, [*self._required, *self._missing])
        bad: dict[int, str] = {}
        for path, rows in absent.items():
            if path in self._missing:
                mask = np.zeros(len(values), bool)
                mask[rows] = True
                columns[path] = pc.if_else(pa.array(mask), self._missing[path], columns[path])
                continue
            reason = f"expected the key '{path}', with a value or null, got none"
            if path in columns:
                reason += f"; unless it is a key, --allow_missing {path}=VALUE gives it a value"
            for row in rows:
                bad.setdefault(row, reason)
        if bad:
            raise BadRows(bad)
        return list(columns.values())

    def _parse(self, values: Sequence[bytes]) -> list[pa.Array]:
        # Each value alone must be one object. These separators, and equal counts of rows and
        # values, ensure that no object spans two values and no value holds two objects.
        lines = b"\n".join(values)
        breaks = len(values) - 1
        if lines.count(b"\n") > breaks:  # a raw line feed in JSON is whitespace
            values = [value.replace(b"\n", b" ") for value in values]
            lines = b"\n".join(values)
        if lines[:1] != b"{" or lines[-1:] != b"}" or lines.count(b"}\n{") != breaks:
            for value in values:
                stripped = value.strip()
                if not (stripped[:1] == b"{" and stripped[-1:] == b"}"):
                    raise ValueError("expected a JSON object")
        try:
            table = parse_lines(lines, self._schema).combine_chunks()
        except (pa.ArrowException, ValueError) as e:
            if len(values) > 1:
                raise
            raise ValueError(find_problem(lines, self._schema) or str(e)) from e
        if table.num_rows != len(values):
            raise ValueError(f"expected one JSON object in a value, got {table.num_rows}")
        return [
            column.chunk(0) if column.num_chunks else pa.array([], column.type)
            for column in table.columns
        ]
