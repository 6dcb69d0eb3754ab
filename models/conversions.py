"""Conversions that a user can ask for by name: `--columns T=epoch_s(departed_at)`.

A conversion that can lose values is never applied without being asked for. This is the whole list:
any other preparation belongs in the table or in the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.models.names import quote_name, unquote_name

_CALL = re.compile(r"(?P<conversion>[a-z_0-9]+)\((?P<column>.+)\)\Z", re.DOTALL)
# The largest finite number of each float type that a conversion gives.
_LIMITS = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38}
_TICKS_PER_DAY = {"d": 1, "s": 86_400, "ms": 86_400_000, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
_UNIT_NAMES = {"d": "days", "s": "seconds", "ms": "milliseconds", "us": "microseconds"}


class LossyValue(ValueError):
    """A column has a value that a conversion would change, or cannot hold."""


class Conversion(NamedTuple):
    """One conversion of the values of a column.

    Attributes:
      meaning: what it does, in words.
      takes: the types it takes, in words.
      accepts: whether it takes an Arrow type.
      result: the Arrow type that it returns.
      apply: converts a column of plain values; nulls stay nulls. It raises LossyValue, or an error
        of Arrow, if it cannot.
    """

    meaning: str
    takes: str
    accepts: Callable[[pa.DataType], bool]
    result: pa.DataType
    apply: Callable[[pa.Array], pa.Array]


def _is_number(data_type: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return any(test(data_type) for test in tests)


def _is_time(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(data_type) or pa.types.is_date(data_type))


def _to_float(name: str, result: pa.DataType) -> Conversion:
    def apply(array: pa.Array) -> pa.Array:
        if pa.types.is_boolean(array.type):
            array = array.cast(pa.int8())
        # Through float64: Arrow has no direct cast of decimals and booleans to every float type.
        wide = array.cast(pa.float64(), safe=False)
        if name in _LIMITS:
            _check_finite(wide, _LIMITS[name])
        return wide.cast(result, safe=False)

    meaning = f"the nearest {name}"
    return Conversion(meaning, "integers, floats, decimals, bool", _is_number, result, apply)


def _check_finite(wide: pa.Array, limit: float) -> None:
    """Raise LossyValue if a finite number would become infinite."""
    # One pass over the buffer; what it holds for nulls only costs a second look.
    values = np.frombuffer(wide.buffers()[1], np.float64)[wide.offset :][: len(wide)]
    if not (np.abs(values) > limit).any():
        return
    import pyarrow.compute as pc

    beyond = pc.and_(pc.is_finite(wide), pc.greater(pc.abs(wide), limit))
    if pc.any(beyond).as_py():
        raise LossyValue


def _to_integer(name: str) -> Conversion:
    result = pa.type_for_alias(name)

    def apply(array: pa.Array) -> pa.Array:
        return _to_whole(array).cast(result)

    meaning = f"the same number as {name}; any other is an error of its row"
    return Conversion(meaning, "integers, floats, decimals, bool", _is_number, result, apply)


def _to_whole(array: pa.Array) -> pa.Array:
    """Return whole numbers as integers; Arrow has no direct cast of every type to each of them."""
    if pa.types.is_boolean(array.type):
        return array.cast(pa.int8())
    if pa.types.is_decimal(array.type):
        return array.cast(pa.decimal256(76, array.type.scale)).cast(pa.decimal256(76, 0))
    return array.cast(pa.float32()) if pa.types.is_float16(array.type) else array


def _to_bool() -> Conversion:
    def apply(array: pa.Array) -> pa.Array:
        import pyarrow.compute as pc

        bits = _to_whole(array).cast(pa.uint8())
        if (pc.max(bits).as_py() or 0) > 1:
            raise LossyValue
        return bits.cast(pa.bool_())

    meaning = "0 as false, 1 as true; any other number is an error of its row"
    return Conversion(meaning, "integers, floats, decimals, bool", _is_number, pa.bool_(), apply)


def _to_epoch(unit: str) -> Conversion:
    def apply(array: pa.Array) -> pa.Array:
        # The instant counts in UTC, whatever time zone displays it.
        ticks = array.view(f"int{array.type.bit_width}").cast(pa.int64())
        return _rescale(ticks, _ticks_per_day(array.type), _TICKS_PER_DAY[unit])

    meaning = f"whole {_UNIT_NAMES[unit]} since 1970 (UTC), rounded down"
    return Conversion(meaning, "timestamps, dates", _is_time, pa.int64(), apply)


def _ticks_per_day(data_type: pa.DataType) -> int:
    if pa.types.is_date(data_type):
        return 1 if pa.types.is_date32(data_type) else _TICKS_PER_DAY["ms"]
    return _TICKS_PER_DAY[data_type.unit]


def _rescale(ticks: pa.Array, has: int, wants: int) -> pa.Array:
    """Return ticks in another unit, rounded down, also for times before 1970."""
    import pyarrow.compute as pc  # its import takes longer than all else of this module

    if wants >= has:
        return pc.multiply_checked(ticks, wants // has)
    step = has // wants
    towards_zero = pc.divide(ticks, step)
    too_high = pc.greater(pc.multiply(towards_zero, step), ticks)
    return pc.subtract(towards_zero, too_high.cast(pa.int64()))


CONVERSIONS: Mapping[str, Conversion] = {
    "float16": _to_float("float16", pa.float16()),
    "float32": _to_float("float32", pa.float32()),
    "float64": _to_float("float64", pa.float64()),
    "bfloat16": _to_float("bfloat16", pa.float32()),
    **{
        name: _to_integer(name)
        for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    "bool": _to_bool(),
    "epoch_s": _to_epoch("s"),
    "epoch_ms": _to_epoch("ms"),
    "epoch_us": _to_epoch("us"),
    "epoch_days": _to_epoch("d"),
}
# Which component of a ragged tensor an input takes. The values are not changed.
RAGGED: Mapping[str, str] = {
    "values": "the values of all rows' lists, one behind the other",
    "row_splits": "where each row's list begins among those values, and where the last one ends",
}
# What a column of a quantized input holds: the numbers that the file stores, or real numbers.
RAW, SCALED = "raw", "scaled"


def parse_conversion(text: str) -> tuple[str, str]:
    """Return conversion and column of `conversion(column)`; the conversion of a bare column is "".

    A column in double quotes is a column, whatever its name looks like.

    Raises:
      ValueError: there is no such conversion; the message lists all conversions.
    """
    match = _CALL.match(text)
    if match is None:
        return "", unquote_name(text)
    name = match["conversion"]
    if name not in CONVERSIONS and name not in (*RAGGED, RAW, SCALED):
        known = ", ".join([*CONVERSIONS, *RAGGED, RAW, SCALED])
        raise ValueError(
            f"expected a column, or one in a conversion of {known}; got '{text}'. A column of that "
            f"name is written in double quotes: {quote_name(text)}"
        )
    return name, unquote_name(match["column"])


def converted_type(conversion: str, data_type: pa.DataType) -> pa.DataType:
    """Return the type of plain values after a conversion; a dictionary counts as its values.

    Raises:
      ValueError: the conversion does not take such values.
    """
    if pa.types.is_dictionary(data_type) and conversion:
        data_type = data_type.value_type
    if conversion not in CONVERSIONS or pa.types.is_null(data_type):
        return data_type
    known = CONVERSIONS[conversion]
    if not known.accepts(data_type):
        raise ValueError(f"{conversion}(…) takes {known.takes}, not {data_type}")
    return known.result


def convert(conversion: str, array: pa.Array) -> pa.Array:
    """Return plain values after a conversion; nulls stay nulls.

    Raises:
      LossyValue: a value would be changed, or is too large.
    """
    if conversion not in CONVERSIONS or pa.types.is_null(array.type):
        return array
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    try:
        return CONVERSIONS[conversion].apply(array)
    except pa.ArrowInvalid as e:
        raise LossyValue(str(e)) from e
