"""Numbers in texts: none may change by being read.

Arrow reads `1e400` as infinity, `9007199254740993` as the nearest float64, and `007` as 7. The
checks here are cheap and find what may have changed. Then the texts themselves are examined.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from scoreline.lake.files.memory import view_numbers

# From here on, float64 does not hold every whole number.
MAX_EXACT = float(2**53)
# Half a step beyond the largest float32: from here on, the nearest float32 is infinity.
_BEYOND_FLOAT = (2.0 - 2.0**-24) * 2.0**127
# Patterns of numbers as texts, with the blanks that Arrow passes over.
# Codes, of which a number would lose the form: leading zeros, a plus, hexadecimal digits.
CODE = r"^[ \t]*([+-]?0[0-9xX]|\+[0-9]+[ \t]*$)"
_LONG = r"^[ \t]*[+-]?[0-9]{16,}(\.0*)?[ \t]*$"
_NOT_INFINITY = r"[0-9]"
_ODD_STARTS = ("0", "+", "-0", " ", "\t")
_MAX_SHOWN = 40


def may_have_changed(array: pa.ChunkedArray) -> bool:
    """Return whether a column of floats has infinities, or numbers beyond the exact ones."""
    if are_below(array, MAX_EXACT if pa.types.is_float64(array.type) else math.inf):
        return False
    ends = [end for end in pc.min_max(array).as_py().values() if end is not None]
    if pa.types.is_float64(array.type):  # the limit itself may stand for its neighbor
        return any(abs(end) >= MAX_EXACT for end in ends)
    return any(math.isinf(end) for end in ends)


def are_below(array: pa.ChunkedArray, limit: float) -> bool:
    """Return whether all floats are numbers below a limit; False if that takes a closer look.

    This is one pass over the memory. What is stored in place of a null counts too.
    """
    for chunk in array.chunks:
        if not len(chunk):
            continue
        values = view_numbers(chunk)
        if not (-limit < values.min() and values.max() < limit):  # also of NaN
            return False
    return True


def find_code(texts: pa.Array, data_type: pa.DataType) -> tuple[int, str] | None:
    """Return the position of a text that is a code, such as 007, and the problem; or None."""
    if not pc.any(pc.less(texts, "1")).as_py():
        return None  # no zero, sign or blank is first
    is_odd = functools.reduce(pc.or_, (pc.starts_with(texts, sign) for sign in _ODD_STARTS))
    for place, text in _find(texts, is_odd, CODE):
        return place, (
            f"expected {data_type}, got {_cut(text)}, which would lose its form. Set --schema with "
            f"string to keep it, or with {data_type} to drop it"
        )
    return None


def find_changed(texts: pa.Array, data_type: pa.DataType) -> tuple[int, str] | None:
    """Return the position of a text that is another number as a float, and the problem; or None."""
    numbers = _to_numbers(texts, data_type)
    for place, text in _find(texts, pc.is_inf(numbers), _NOT_INFINITY):
        return place, say_beyond(text, str(data_type))
    if not pa.types.is_float64(data_type):
        return None
    for place, text in _find(texts, pc.greater_equal(pc.binary_length(texts), 16), _LONG):
        if is_rounded(text, numbers[place].as_py()):
            return place, say_rounded(text)
    return None


def _find(texts: pa.Array, flags: pa.Array, pattern: str) -> Iterator[tuple[int, str]]:
    """Yield positions and texts that match a pattern, of those with a flag."""
    places = pc.indices_nonzero(flags)
    if not len(places):
        return
    some = texts.take(places)
    for at in pc.indices_nonzero(pc.match_substring_regex(some, pattern)):
        yield places[at.as_py()].as_py(), some[at.as_py()].as_py()


def _to_numbers(texts: pa.Array, data_type: pa.DataType) -> pa.Array:
    try:
        return texts.cast(data_type)
    except pa.ArrowInvalid:
        return pc.utf8_trim_whitespace(texts).cast(data_type)


def is_rounded(text: str, number: float) -> bool:
    """Return whether a whole number in digits differs from the float that it was read as."""
    return int(text.strip().partition(".")[0]) != int(number)


def is_beyond(number: float, kind: str) -> bool:
    """Return whether a finite number becomes infinite as `float` or `double`."""
    return math.isinf(number) or (kind == "float" and abs(number) >= _BEYOND_FLOAT)


def say_beyond(text: str, kind: str) -> str:
    """Return the problem of a number that would become infinite."""
    way = "double or string" if kind == "float" else "string"
    return f"expected a number that {kind} holds, got {_cut(text)}. Set --schema with {way}"


def say_rounded(text: str) -> str:
    """Return the problem of a whole number that float64 does not hold."""
    return (
        f"expected a whole number that double holds, got {_cut(text)}, which would be rounded. Set "
        "--schema with int64, or write it as text"
    )


def shorten(text: str) -> str:
    """Return the beginning of a text for a message; it is not to show payloads."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _cut(text: str) -> str:
    return repr(shorten(text.strip()))
