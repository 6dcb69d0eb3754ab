"""Numbers in texts: none may change by being read.

Arrow reads `1e400` as infinity, `9007199254740993` as the nearest float64, and `007` as 7. The
checks here are cheap and find what may have changed. Then the texts themselves are examined.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# From here on, float64 does not hold every whole number.
MAX_EXACT = float(2**53)
# Half a step beyond the largest float32: from here on, the nearest float32 is infinity.
_BEYOND_FLOAT = (2.0 - 2.0**-24) * 2.0**127
_ZERO, _COMMA, _SPACE = np.uint8(48), np.uint8(44), np.uint8(32)
_SEPARATORS = (44, 10, 13, 34)  # a comma, the end of a line, a quotation mark
_CODE_SIGNS = (b",+", b"\n+", b'"+', b"0x", b"0X")
# Patterns of numbers as texts, with the blanks that Arrow passes over.
_HEX = r"^[ \t]*-?0[xX]"
_ZERO_FIRST = r"^[ \t]*[+-]?0[0-9]"
_PLUS_FIRST = r"^[ \t]*\+[0-9]+[ \t]*$"
_LONG = r"^[ \t]*[+-]?[0-9]{16,}(\.0*)?[ \t]*$"
_INFINITY = r"(?i)^[ \t]*[+-]?inf(inity)?[ \t]*$"
_MAX_SHOWN = 40


def may_have_codes(block: bytes) -> bool:
    """Return whether a block of CSV has what looks like `007`, `0x1F` or `+49`, quickly."""
    if any(sign in block for sign in _CODE_SIGNS):
        return True
    if block[-1:] == b"0" or block[:1] == b"0":
        return True  # the other digits, or the separator, are in another block
    data = np.frombuffer(block, np.uint8)
    before, zero, after = data[:-2], data[1:-1], data[2:]
    # Digits after a zero, which follows a separator or a blank: not a date, and not `1.05`.
    found = (zero == _ZERO) & (before <= _COMMA) & (after - _ZERO < 10)
    if not found.any():
        return False
    places = np.flatnonzero(found)
    is_separated = np.isin(before[places], (*_SEPARATORS, 43))
    is_blank = before[places] == _SPACE  # in `2024-01-01 00:00` the byte before is a digit
    return bool((is_separated | (is_blank & np.isin(data[places - 1], (*_SEPARATORS, 32)))).any())


def may_have_changed(array: pa.Array) -> bool:
    """Return whether a column of floats has infinities, or numbers beyond the exact ones."""
    ends = [end for end in pc.min_max(array).as_py().values() if end is not None]
    if pa.types.is_float64(array.type):  # the limit itself may stand for its neighbor
        return any(abs(end) >= MAX_EXACT for end in ends)
    return any(math.isinf(end) for end in ends)


def find_changed_text(
    texts: pa.Array, data_type: pa.DataType, *, is_inferred: bool
) -> tuple[int, str] | None:
    """Return the position of a text that is read as another number, and the problem; or None.

    Args:
      texts: a column as text, which is valid as the type.
      data_type: integer or float.
      is_inferred: whether nobody asked for a number; then a code such as `007` is a text.
    """
    texts = texts.cast(pa.string())
    at = _find(pc.match_substring_regex(texts, _HEX))
    if at is not None:
        return at, _say_hex(texts[at].as_py(), data_type)
    for pattern in (_ZERO_FIRST, _PLUS_FIRST) if is_inferred else ():
        at = _find(pc.match_substring_regex(texts, pattern))
        if at is not None:
            return at, _say_code(texts[at].as_py(), data_type)
    if not pa.types.is_floating(data_type):
        return None
    kind = str(data_type)
    numbers = pc.utf8_trim_whitespace(texts).cast(data_type)
    is_word = pc.match_substring_regex(texts, _INFINITY)
    at = _find(pc.and_(pc.is_inf(numbers), pc.invert(is_word)))
    if at is not None:
        return at, say_beyond(texts[at].as_py(), kind)
    if not pa.types.is_float64(data_type):
        return None
    for place in pc.indices_nonzero(pc.match_substring_regex(texts, _LONG)).to_pylist():
        text = texts[place].as_py()
        if is_rounded(text, numbers[place].as_py()):
            return place, say_rounded(text)
    return None


def _find(flags: pa.Array) -> int | None:
    places = pc.indices_nonzero(flags)
    return places[0].as_py() if len(places) else None


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
        "--schema with int64 or string"
    )


def _say_code(text: str, data_type: pa.DataType) -> str:
    return (
        f"expected {data_type}, got {_cut(text)}, which would lose its form. Set --schema with "
        f"string to keep it, or with {data_type} to drop it"
    )


def _say_hex(text: str, data_type: pa.DataType) -> str:
    return f"expected {data_type} in decimal digits, got {_cut(text)}. Set --schema with string"


def _cut(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")
