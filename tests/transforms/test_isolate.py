from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.models.errors import ModelError
from scoreline.transforms.isolate import EveryRowFails, isolate


class Model:
    """Fails on every call with a bad row; counts its calls."""

    def __init__(self, bad, reason="bad row"):
        self.bad, self.reason, self.calls = set(bad), reason, 0

    def __call__(self, start, stop):
        self.calls += 1
        found = sorted(self.bad & set(range(start, stop)))
        if found:
            raise ValueError(self.reason if self.reason else f"row {found[0]}")
        return list(range(start, stop))


def rows_of(isolated):
    return [row for _, _, outputs in isolated.parts for row in outputs]


@given(st.integers(1, 300), st.data())
def test_exactly_the_bad_rows_are_dead_and_all_others_scored_in_order(rows, data):
    bad = data.draw(st.sets(st.integers(0, rows - 1), min_size=1))
    model = Model(bad, reason=None)
    isolated = isolate(model, rows, str)
    assert isolated.dead == {row: f"row {row}" for row in bad}
    assert rows_of(isolated) == sorted(set(range(rows)) - bad)
    assert isolated.calls == model.calls


@pytest.mark.parametrize("row", [0, 1, 4095, 4096, 8190, 8191])
def test_one_bad_row_costs_about_log2_n_calls(row):
    isolated = isolate(Model({row}), 8192, str)
    assert isolated.dead == {row: "bad row"}
    assert isolated.calls <= 2 * math.log2(8192) + 2


def test_every_row_failing_for_one_reason_is_noticed_early():
    model = Model(range(100_000))
    with pytest.raises(EveryRowFails, match=r"every one of 64 rows .* fails alone: bad row"):
        isolate(model, 100_000, str)
    assert model.calls == 64


def test_rows_that_fail_for_different_reasons_are_separated():
    isolated = isolate(Model(range(100), reason=None), 100, str)
    assert len(isolated.dead) == 100


def test_a_failure_that_does_not_come_again_costs_no_row():
    failures = iter([ValueError("once")])

    def call(start, stop):
        for error in failures:
            raise error
        return list(range(start, stop))

    isolated = isolate(call, 10, str)
    assert isolated.dead == {}
    assert rows_of(isolated) == list(range(10))


class Lost(RuntimeError):
    """A failure that costs far more than a successful call."""


class Dear(Model):
    """Fails at high cost on every call with a bad row; counts the failures."""

    lost = 0

    def __call__(self, start, stop):
        try:
            return super().__call__(start, stop)
        except ValueError as e:
            self.lost += 1
            raise Lost(str(e)) from e


def isolate_dear(model, rows):
    return isolate(model, rows, str, Lost("whole"), lambda e: isinstance(e, Lost))


@given(st.integers(1, 100_000), st.data())
def test_a_bad_row_costs_two_dear_failures_and_no_neighbour(rows, data):
    bad = data.draw(st.sets(st.integers(0, rows - 1), min_size=1, max_size=5))
    model = Dear(bad, reason=None)
    isolated = isolate_dear(model, rows)
    assert isolated.dead == {row: f"row {row}" for row in bad}
    assert rows_of(isolated) == sorted(set(range(rows)) - bad)
    # In addition, a probe may hit a bad row. A batch of more than 256² rows takes one more step.
    assert model.lost <= (2 if rows <= 65_536 else 3) * len(bad) + 3


def test_every_row_failing_dearly_for_one_reason_is_noticed_after_four():
    model = Dear(range(100_000))
    with pytest.raises(EveryRowFails, match=r"every one of 4 rows .* fails alone: bad row"):
        isolate_dear(model, 100_000)
    assert model.lost == 4


def test_a_batch_with_very_many_dear_failures_is_given_up():
    model = Dear(range(1, 8192, 7), reason="bad row")
    with pytest.raises(EveryRowFails, match="33 costly failures in a batch of 8192 rows"):
        isolate_dear(model, 8192)
    assert model.lost == 33


def test_without_a_model_nothing_is_isolated():
    def call(start, stop):
        raise ModelError("the model is gone")

    with pytest.raises(ModelError, match="the model is gone"):
        isolate(call, 10, str)


def test_rows_may_all_fail_where_each_is_at_fault_by_itself():
    isolated = isolate(Model(range(100)), 100, str, may_all_fail=True)
    assert isolated.dead == dict.fromkeys(range(100), "bad row")
    assert not isolated.parts


def test_what_no_row_is_at_fault_for_ends_it_all():
    with pytest.raises(ValueError, match="bad row"):
        isolate(Model({3}), 100, str, errors=(TypeError,), may_all_fail=True)
