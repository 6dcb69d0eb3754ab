"""Keys that JSON objects lack: parsers read them as nulls, and a null is another thing.

A producer that renames a key would otherwise have all its rows filled with a default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc


def find_absent(
    values: Sequence[bytes], columns: Mapping[str, pa.Array], paths: Sequence[str]
) -> dict[str, list[int]]:
    """Return, by path, the rows whose object has no such key; only paths with such rows.

    A key of an object that is null itself is a null. Only rows with a null are parsed again.

    Args:
      values: the text of each row's object.
      columns: the parsed top-level columns.
      paths: the keys; `parent.child` is a key of an object, if no column has this name.
    """
    absent: dict[str, list[int]] = {}
    parsed: dict[int, Any] = {}
    for path in paths:
        keys = [path] if path in columns else path.split(".")
        column = columns[keys[0]]
        for key in keys[1:]:
            column = pc.struct_field(column, key)
        if not column.null_count:
            continue
        for row in pc.indices_nonzero(pc.is_null(column)).to_pylist():
            if row not in parsed:
                parsed[row] = _parse(values[row])
            if not _has(parsed[row], keys):
                absent.setdefault(path, []).append(row)
    return absent


def _parse(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:  # what is not read may hold NaN, or bytes that are not UTF-8
        return json.loads(value.decode("utf-8", "replace"))


def _has(found: Any, keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(found, dict):
            return True
        if key not in found:
            return False
        found = found[key]
    return True
