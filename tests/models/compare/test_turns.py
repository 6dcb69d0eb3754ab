from __future__ import annotations

from scoreline.models.compare.turns import take_turns


def test_each_turn_calls_both_and_the_order_changes():
    calls = []

    def call(name):
        calls.append(name)
        return f"{name}{len(calls)}"

    pairs = take_turns(lambda: call("a"), lambda: call("b"), 3)
    assert "".join(calls) == "abbaab"
    assert pairs == [("a1", "b2"), ("a4", "b3"), ("a5", "b6")]


def test_turns_end_when_the_time_is_over_but_not_before_the_minimum():
    now = iter(range(100))

    def count(**limits):
        return len(take_turns(str, str, 9, clock=lambda: next(now) * 10.0, **limits))

    assert count(max_seconds=0) == 2
    assert count(max_seconds=0, min_turns=5) == 5
    assert count(max_seconds=25) == 4
    assert count() == 9
