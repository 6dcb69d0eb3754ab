"""What is wrong with one line of JSON: the value, its column, and what was expected.

Arrow's parser is fast, and this is exact. It is for lines that Arrow refuses, or may have changed.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from scoreline.lake.files.exact import is_beyond, is_rounded, say_beyond, say_rounded, shorten

_KINDS = {dict: "an object", list: "an array", str: "text", bool: "bool", type(None): "null"}

# A surrogate without the other one of its pair.
_HALF = re.compile("[\ud800-\udfff]")


class _Whole(str):
    """The digits of a whole number."""


class _Decimal(str):
    """The digits of a number with a fraction or an exponent."""


class _Word(str):
    """`NaN` or `Infinity`."""


class _Object(dict[str, Any]):
    """An object, with the names that it has twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        """Keep the names that occur twice."""
        super().__init__(pairs)
        self.twice = [name for name, times in Counter(n for n, _ in pairs).items() if times > 1]


def find_problem(line: bytes, schema: pa.Schema, whole: Sequence[str] = ()) -> str:
    """Return why a line is not an object of a schema; "" if it is.

    Args:
      line: the text of one object.
      schema: the types of its keys; other keys may have any value.
      whole: keys whose objects may have no other keys than those in the schema.
    """
    try:
        row = json.loads(
            line.decode(),
            parse_int=_Whole,
            parse_float=_Decimal,
            parse_constant=_Word,
            object_pairs_hook=_Object,
        )
    except UnicodeDecodeError:
        return "expected UTF-8"
    except json.JSONDecodeError as e:
        rest = e.doc[e.pos : e.pos + 20]
        got = f"{rest!r} at character {e.pos + 1}" if rest.strip() else "the end of the line"
        return f"expected an object in JSON, got {got}"
    except RecursionError:
        return "expected an object in JSON, got one that is nested too deeply"
    if not isinstance(row, _Object):
        return f"expected an object, got {_name(row)}"
    if half := _HALF.search(json.dumps(row, ensure_ascii=False)):
        return f"expected text in Unicode, got \\u{ord(half[0]):x}, which is half of a character"
    struct = pa.struct(list(schema))
    twice = [name for name in row.twice if name in schema.names]
    if twice:
        return f"expected key '{twice[0]}' once, got it twice"
    problems = (
        _find_in(row.get(field.name), field.type, field.name, is_whole=field.name in whole)
        for field in struct
    )
    return next(filter(None, problems), "")


def _find_in(value: Any, kind: pa.DataType, path: str, *, is_whole: bool) -> str:
    if value is None:
        return ""
    if pa.types.is_struct(kind) and isinstance(value, _Object):
        return _find_in_object(value, kind, path, is_whole=is_whole)
    if pa.types.is_list(kind) and isinstance(value, list):
        items = (_find_in(v, kind.value_type, path, is_whole=is_whole) for v in value)
        return next(filter(None, items), "")
    problem = _find_in_value(value, kind)
    return f"column '{path}': {problem}" if problem else ""


def _find_in_object(value: _Object, kind: pa.DataType, path: str, *, is_whole: bool) -> str:
    names = [field.name for field in kind]
    if value.twice:
        return f"expected key '{path}.{value.twice[0]}' once, got it twice"
    further = [name for name, inner in value.items() if name not in names and inner is not None]
    if is_whole and further:
        return (
            f"column '{path}': expected only the keys {', '.join(names)}, as in the first files, "
            f"got '{further[0]}' too. Set the type of '{path}' with --schema, with or without it"
        )
    fields = (
        _find_in(value.get(field.name), field.type, f"{path}.{field.name}", is_whole=is_whole)
        for field in kind
    )
    return next(filter(None, fields), "")


def _find_in_value(value: Any, kind: pa.DataType) -> str:
    expected = f"expected {kind}, got {_name(value)}"
    if pa.types.is_null(kind):
        return f"{expected}: the first files have no value. Set its type with --schema"
    if pa.types.is_boolean(kind):
        return "" if isinstance(value, bool) else expected
    if pa.types.is_integer(kind):
        fits = isinstance(value, _Whole) and _fits(value, kind)
        return "" if fits else expected
    if pa.types.is_floating(kind):
        return _find_in_float(value, kind) if isinstance(value, (_Whole, _Decimal)) else expected
    is_text = type(value) is str
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "" if is_text and _fits(value, kind) else expected + _advise_zone(value, kind)
    if pa.types.is_struct(kind) or pa.types.is_list(kind):
        return expected
    return "" if is_text or not _is_text_type(kind) else expected


def _find_in_float(value: str, kind: pa.DataType) -> str:
    number = float(value)
    if is_beyond(number, str(kind)):
        return say_beyond(value, str(kind))
    digits, _, fraction = value.partition(".")
    is_whole = digits.lstrip("-").isdigit() and not fraction.strip("0")
    if pa.types.is_float64(kind) and is_whole and math.isfinite(number):
        return say_rounded(value) if is_rounded(digits, number) else ""
    return ""


def _fits(value: str, kind: pa.DataType) -> bool:
    try:
        pa.scalar(str(value), pa.string()).cast(kind)
    except pa.ArrowException:
        return False
    return True


def _advise_zone(value: Any, kind: pa.DataType) -> str:
    """Return advice if a text is a timestamp of the other kind, with or without a zone offset."""
    if not pa.types.is_timestamp(kind):
        return ""
    zoned = kind.tz is None
    if type(value) is not str or not _fits(
        value, pa.timestamp(kind.unit, "UTC" if zoned else None)
    ):
        return ""
    if zoned:
        return ". It has no zone offset; timestamp[us, tz=UTC] in --schema has one"
    return ". It has a zone offset such as Z or +01:00"


def _is_text_type(kind: pa.DataType) -> bool:
    return str(kind).removeprefix("large_") in ("string", "binary")


def _name(value: Any) -> str:
    """Return a value for a message; payloads are not shown."""
    if isinstance(value, (_Whole, _Decimal, _Word)):
        return shorten(str(value))
    if isinstance(value, str):
        return repr(shorten(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return _KINDS.get(type(value), "an object")
