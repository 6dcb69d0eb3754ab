from __future__ import annotations

import datetime
import decimal
import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.models.conversions import CONVERSIONS, convert, converted_type, parse_conversion

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MOMENTS = st.datetimes(*(datetime.datetime.fromisoformat(f"{y}-01-01") for y in (1900, 2200)))


def test_a_column_may_stand_in_a_conversion():
    assert parse_conversion("time") == ("", "time")
    assert parse_conversion("epoch_s(time (local))") == ("epoch_s", "time (local)")
    assert parse_conversion("values(a.b)") == ("values", "a.b")
    with pytest.raises(ValueError, match=r"conversion of float16, .*; got 'sqrt\(x\)'"):
        parse_conversion("sqrt(x)")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Asia/Kolkata"])
@pytest.mark.parametrize(
    ("name", "microseconds"),
    [("epoch_s", 10**6), ("epoch_ms", 1000), ("epoch_us", 1), ("epoch_days", 86_400 * 10**6)],
)
def test_times_are_counted_in_utc_and_rounded_down(unit, zone, name, microseconds):
    @settings(max_examples=25)  # for each of 32 cases
    @given(st.lists(MOMENTS | st.none()))
    def check(moments):
        column = pa.array(moments, pa.timestamp("us")).cast(pa.timestamp(unit), safe=False)
        instants = [
            None if m is None else m.replace(tzinfo=datetime.UTC) for m in column.to_pylist()
        ]
        got = convert(name, column if zone is None else column.cast(pa.timestamp(unit, zone)))
        micros = [
            None if i is None else (i - EPOCH) // datetime.timedelta(microseconds=1)
            for i in instants
        ]
        assert got.to_pylist() == [None if m is None else m // microseconds for m in micros]
        assert got.type == converted_type(name, column.type) == pa.int64()

    check()


def test_dates_are_midnights_in_utc():
    dates = [datetime.date(1969, 12, 31), None, datetime.date(2013, 11, 1)]
    for data_type in (pa.date32(), pa.date64()):
        column = pa.array(dates, data_type)
        assert convert("epoch_days", column).to_pylist() == [-1, None, 16010]
        assert convert("epoch_s", column).to_pylist() == [-86_400, None, 16010 * 86_400]


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_numbers_become_the_nearest_float(name):
    column = pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("-3.00")])
    got = convert(name, column)
    assert got.type == CONVERSIONS[name].result
    assert math.isclose(got[0].as_py(), 1.1, rel_tol=1e-3)
    assert got.to_pylist()[1:] == [None, -3.0]
    assert convert(name, pa.array([True, False, None])).to_pylist() == [1.0, 0.0, None]
    assert convert(name, pa.array([2049, 1]).dictionary_encode()).to_pylist()[1] == 1.0


def test_types_that_a_conversion_does_not_take_are_refused():
    with pytest.raises(ValueError, match=r"float64\(…\) takes integers, .*, not string"):
        converted_type("float64", pa.string())
    assert converted_type("epoch_s", pa.null()) == pa.null()
