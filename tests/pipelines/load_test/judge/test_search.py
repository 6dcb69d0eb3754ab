"""The search for the capacity, against simulated systems whose capacity is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.pipelines.load_test.judge import search
from scoreline.pipelines.load_test.judge.elements import Outcome
from scoreline.pipelines.load_test.judge.search import PRECISIONS, End, Search

LOADS = st.floats(1e-3, 1e7)
OUTCOMES = st.sampled_from(Outcome)


def run(outcome_of, *, start=1000.0, precision="normal", harness=math.inf):
    """Run a search to its end; return it and its capacity."""
    state = Search(start_per_s=start, precision=PRECISIONS[precision], harness_per_s=harness)
    while (probe := state.next_probe()) is not None:
        state = state.after(outcome_of(probe.load_per_s))
    return state, state.capacity()


def noisy_system(capacity, rng, width, *, false_fail=0.02, false_pass=0.005):
    """Pass below the capacity and fail above it, with a band of both and some errors."""

    def outcome_of(load):
        share = np.interp(load / capacity, [1 - width, 1 + width], [1 - false_fail, false_pass])
        if rng.random() < share:
            return Outcome.PASS
        return Outcome.FAIL if rng.random() < 0.5 else Outcome.UNDECIDED

    return outcome_of


def phases(state):
    return [(probe.phase, round(probe.load_per_s)) for probe, _ in state.tried]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_noisy_systems_are_bracketed_within_the_precision(precision):
    rng = np.random.default_rng(17)
    share = PRECISIONS[precision].share
    width = share / 3  # what the windows cannot tell apart
    found, windows = 0, []
    for _ in range(500):
        capacity = math.exp(rng.uniform(math.log(100), math.log(100_000)))
        state, result = run(
            noisy_system(capacity, rng, width),
            start=capacity * math.exp(rng.uniform(-2, 1.5)),
            precision=precision,
        )
        assert result.end is End.FOUND
        windows.append(len(state.tried))
        sure = capacity * (1 - width)
        found += sure / (1 + share) <= result.passes_per_s <= capacity * (1 + width)
    assert found >= 0.95 * 500
    assert np.mean(windows) < 15


@given(
    st.lists(OUTCOMES, min_size=1),
    LOADS,
    st.one_of(st.just(math.inf), LOADS),
    st.sampled_from(list(PRECISIONS)),
)
def test_any_outcomes_end_within_the_bound_and_report_tested_loads(cycle, start, harness, level):
    """A search takes whatever comes, even outcomes that contradict each other."""
    turns = iter(range(10**6))
    state, result = run(
        lambda _: cycle[next(turns) % len(cycle)], start=start, precision=level, harness=harness
    )
    assert 0 < len(state.tried) <= search.MAX_PROBES
    loads = [probe.load_per_s for probe, _ in state.tried]
    assert all(0 < load <= harness / search.HARNESS_MARGIN * (1 + 1e-9) for load in loads)

    def outcomes(load):
        return [
            outcome
            for probe, outcome in state.tried
            if probe.load_per_s == load and outcome is not Outcome.INVALID
        ]

    assert max(len(outcomes(load)) for load in loads) <= search.WINDOWS
    if result.passes_per_s is not None:
        assert outcomes(result.passes_per_s) == [Outcome.PASS] * 3
    if result.fails_per_s is not None:
        failures = [o for o in outcomes(result.fails_per_s) if o is not Outcome.PASS]
        assert len(failures) == result.failed >= 2
        assert len(outcomes(result.fails_per_s)) == result.fail_windows
    if result.passes_per_s is not None and result.fails_per_s is not None:
        assert result.passes_per_s < result.fails_per_s
    if result.end is End.FOUND:
        assert None not in (result.passes_per_s, result.fails_per_s)


@given(st.floats(1e-2, 1e2), st.floats(1e-3, 1e3))
def test_the_search_does_not_depend_on_the_unit_of_time(ratio, unit):
    """Rows per minute give the same steps as rows per second."""
    first, one = run(lambda load: Outcome.PASS if load < ratio else Outcome.FAIL, start=1.0)
    second, other = run(
        lambda load: Outcome.PASS if load / unit < ratio else Outcome.FAIL, start=unit
    )
    assert [p.phase for p, _ in first.tried] == [p.phase for p, _ in second.tried]
    assert other.passes_per_s == pytest.approx(one.passes_per_s * unit)


def test_the_steps_are_ramp_then_bisect_then_confirm_in_turns():
    state, result = run(lambda load: Outcome.PASS if load <= 3000 else Outcome.FAIL)
    assert phases(state) == [
        *[("ramp", 1000), ("ramp", 2000), ("ramp", 4000), ("ramp", 2400)],
        *[("ramp", 2880), ("bisect", 3394), ("bisect", 3127), ("bisect", 3001)],
        *[("confirm", 2880), ("confirm", 3001), ("confirm", 2880)],
    ]
    assert result == (2880, pytest.approx(3001, abs=1), 2, 2, 0.05, False, End.FOUND)


def test_a_low_load_that_fails_a_confirmation_becomes_the_high_load():
    windows = []

    def outcome_of(load):
        windows.append(load)
        if load < 900 or (load <= 1000 and windows.count(load) == 1):
            return Outcome.PASS
        return Outcome.FAIL

    _, result = run(outcome_of)
    assert 900 / 1.05 < result.passes_per_s < 900 <= result.fails_per_s <= 900 * 1.05


def test_a_false_failure_far_below_the_capacity_does_not_bound_the_search():
    failed = []

    def outcome_of(load):
        if not failed:
            failed.append(load)
            return Outcome.FAIL
        return Outcome.PASS if load <= 50_000 else Outcome.FAIL

    _, result = run(outcome_of)
    assert 50_000 / 1.05 < result.passes_per_s <= 50_000


def test_undecided_counts_as_a_failure():
    _, failing = run(lambda load: Outcome.PASS if load < 3000 else Outcome.FAIL)
    _, undecided = run(lambda load: Outcome.PASS if load < 3000 else Outcome.UNDECIDED)
    assert failing == undecided


def test_an_invalid_window_is_repeated_once():
    outcomes = iter([Outcome.PASS, Outcome.INVALID, *[Outcome.PASS] * 2, *[Outcome.INVALID] * 2])
    state, result = run(lambda _: next(outcomes))
    assert [load for _, load in phases(state)] == [1000, 2000, 2000, 4000, 8000, 8000]
    assert result == (None, None, 0, 0, 0.05, False, End.INVALID)


def test_the_harness_limits_the_search():
    state, result = run(lambda _: Outcome.PASS, harness=6500)
    assert phases(state)[-3:] == [("ramp", 5000), ("confirm", 5000), ("confirm", 5000)]
    assert result == (pytest.approx(5000), None, 0, 0, 0.05, True, End.HARNESS)


def test_a_harness_below_the_start_lowers_the_start():
    state, _ = run(lambda _: Outcome.PASS, harness=650)
    assert {load for _, load in phases(state)} == {500}


def test_a_system_where_nothing_passes_ends_the_search():
    state, result = run(lambda _: Outcome.FAIL)
    assert result == (None, pytest.approx(1000 / 1024), 2, 2, 0.05, False, End.NOTHING_PASSES)
    assert len(state.tried) == 12


def test_a_search_that_is_cut_short_reports_only_what_is_confirmed():
    state = Search(start_per_s=1000, precision=PRECISIONS["quick"])
    for _ in range(4):
        assert state.capacity() == (None, None, 0, 0, 0.1, False, None)
        state = state.after(Outcome.PASS)


def test_a_search_that_has_ended_takes_no_outcome():
    state, _ = run(lambda _: Outcome.INVALID)
    with pytest.raises(ValueError, match=r"has ended \(invalid\)"):
        state.after(Outcome.PASS)


@pytest.mark.parametrize(("start", "harness"), [(0, 1), (math.nan, 1), (math.inf, 1), (1, 0)])
def test_a_start_or_a_ceiling_that_is_no_load_is_rejected(start, harness):
    with pytest.raises(ValueError, match="needs a finite start above 0"):
        Search(start_per_s=start, precision=PRECISIONS["quick"], harness_per_s=harness)
