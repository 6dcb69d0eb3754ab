"""The lag trend: simulated queues of known load, and the interval of the slope."""

import numpy as np
import pytest

from scoreline.pipelines.load_test.judge import lag, trend
from scoreline.pipelines.load_test.judge.elements import Outcome, Slos
from scoreline.pipelines.load_test.judge.window import judge_window
from tests.pipelines.load_test.judge import queues

SECONDS = 60.0


def judged(rng, rate, load, kind="mm1", commit_s=0.0):
    due_s, scored_s = queues.queue(rng, rate, load, SECONDS, kind=kind, commit_s=commit_s)
    return lag.judge_lag(
        due_s, scored_s, begin_s=0.0, end_s=SECONDS, commit_s=commit_s, offered_per_s=rate
    )


@pytest.mark.parametrize(
    ("loads", "outcome", "share"), [((0.5, 0.95), Outcome.PASS, 0.95), ((1.02, 1.3), None, 0.99)]
)
def test_a_thousand_queues(loads, outcome, share):
    passed = 0
    for seed in range(500):
        rng = np.random.default_rng([seed, 17])
        rate, load, commit_s = rng.uniform(200, 400), rng.uniform(*loads), rng.choice([0.0, 1.0])
        due_s, scored_s = queues.queue(
            rng, rate, load, SECONDS, kind=("mm1", "md1")[seed % 2], commit_s=commit_s
        )
        window = queues.window(due_s, scored_s, SECONDS, rate, commit_s=commit_s)
        result = judge_window(window, Slos(freshness_s=5.0), percents=())
        assert not result.invalid_because
        passed += result.outcome is Outcome.PASS
    assert (passed if outcome else 500 - passed) >= share * 500


def test_an_overload_of_2_percent_passes_a_bare_threshold_but_not_the_interval():
    lags = [judged(np.random.default_rng([seed, 2]), 200, 1.02) for seed in range(300)]
    bare = sum(found.slope_share.value <= 0.01 for found in lags)
    assert bare > 0.2 * len(lags)
    kept = sum(
        found.outcome is Outcome.PASS and found.scored_share >= lag.MIN_SCORED_SHARE
        for found in lags
    )
    assert kept <= 0.01 * len(lags)


@pytest.mark.parametrize("load", [0.8, 0.95, 1.02, 1.1])
def test_the_interval_covers_the_growth_and_least_squares_alone_does_not(load):
    truth = max(0.0, 1 - 1 / load)
    covered = alone = 0
    for seed in range(200):
        found = judged(np.random.default_rng([seed, 3]), 200, load, commit_s=0.25)
        covered += found.slope_share.low <= truth <= found.slope_share.high
        at_s = np.arange(len(found.bins)) * found.width_s
        (value, _), errors = np.polyfit(at_s, found.bins / 200, 1, cov=True)
        alone += abs(value - truth) <= 2 * np.sqrt(errors[0, 0])
    assert covered >= 0.9 * 200
    if load >= 0.95:
        assert alone < 0.8 * 200


def test_the_backlog_of_bins_is_an_exact_integral():
    # One row waits from 1 s to 4 s, another from 3 s on.
    due_s, scored_s = np.array([1.0, 3.0]), np.array([4.0, np.nan])
    bins = lag.mean_backlog(due_s, scored_s, np.array([0.0, 2.0, 4.0, 6.0]))
    np.testing.assert_allclose(bins, [0.5, 1.5, 1.0])
    assert [lag.backlog(due_s, scored_s, t) for t in (0.5, 3.5, 6.0)] == [0, 2, 1]


@pytest.mark.parametrize(
    ("seconds", "commit_s", "width_s"), [(60, 1.0, 2.0), (640, 1.0, 10.0), (12, 1.0, 2.0)]
)
def test_bins_are_whole_multiples_of_two_commit_periods(seconds, commit_s, width_s):
    due_s = np.arange(0.0, seconds, 0.1)
    found = lag.judge_lag(
        due_s, due_s, begin_s=0.0, end_s=seconds, commit_s=commit_s, offered_per_s=10.0
    )
    assert found.width_s == pytest.approx(width_s)
    assert trend.MIN_BINS <= len(found.bins) <= trend.MAX_BINS
    assert found.outcome is Outcome.PASS


def test_a_window_too_short_for_a_trend_is_refused():
    due_s = np.arange(0.0, 5.0, 0.1)
    with pytest.raises(ValueError, match=r"at least 12 s for commits every 1 s .*, got 5 s"):
        lag.judge_lag(due_s, due_s, begin_s=0.0, end_s=5.0, commit_s=1.0, offered_per_s=10.0)


def test_rate_out_is_not_confused_by_the_phase_of_commits():
    for end_s in (84.0, 86.5, 90.9):
        due_s = np.arange(-20.0, end_s, 0.001)
        found = lag.judge_lag(
            due_s,
            queues.committed(due_s + 0.001, 7.0),
            begin_s=end_s - 84.0,
            end_s=end_s,
            commit_s=7.0,
            offered_per_s=1000.0,
        )
        assert found.scored_share == pytest.approx(1.0, abs=1e-3)
        assert found.outcome is Outcome.PASS
