from __future__ import annotations

import math

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from scoreline.transforms.rules import OutputRule, find_bad_outputs

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(st.lists(FLOATS))
def test_forbidden_numbers_make_their_row_dead(numbers):
    column = pa.array(numbers, pa.float32())
    rule = OutputRule("y", forbids_nan=True, forbids_inf=True)
    assert set(find_bad_outputs({"y": column}, [rule])) == {
        i for i, number in enumerate(numbers) if not math.isfinite(number)
    }
    only_inf = [OutputRule("y", forbids_inf=True)]
    assert set(find_bad_outputs({"y": column}, only_inf)) == {
        i for i, number in enumerate(numbers) if math.isinf(number)
    }


@given(st.lists(st.lists(FLOATS, max_size=3)), st.booleans())
def test_a_row_is_dead_when_any_of_its_numbers_is_out_of_range(rows, fixed):
    if fixed:
        rows = [[*row, 0.5, 0.5, 0.5][:3] for row in rows]
    column = pa.array(rows, pa.list_(pa.float32(), 3) if fixed else pa.list_(pa.float32()))
    bad = find_bad_outputs({"y": column}, [OutputRule("y", low=0.0, high=1.0)])
    assert set(bad) == {
        i for i, row in enumerate(rows) if any(not 0 <= number <= 1 for number in row)
    }


def test_reasons_name_output_number_and_rule():
    column = pa.array([0.5, math.nan, 1.5])
    rules = [OutputRule("y", forbids_nan=True), OutputRule("y", low=0.0, high=1.0)]
    assert find_bad_outputs({"y": column}, rules) == {
        1: "output 'y' is nan; --forbid nan",
        2: "output 'y' is 1.5; --range y=0..1",
    }


def test_integers_have_a_range_but_no_nan():
    column = pa.array([1, 5, 9])
    assert find_bad_outputs({"y": column}, [OutputRule("y", True, True, 2, 8)]).keys() == {0, 2}
