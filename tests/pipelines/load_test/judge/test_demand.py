"""The number of workers for a rate."""

from __future__ import annotations

import numpy as np
import pytest

from scoreline.pipelines.load_test.judge.demand import demand
from scoreline.pipelines.load_test.judge.usl import ScalePoint, fit_usl
from tests.pipelines.load_test.judge.test_usl import law, measured


def demand_of(rate_per_s, points, **options):
    return demand(rate_per_s, points, fit_usl(points, **options))


def test_a_tested_count_that_holds_the_rate_is_measured():
    """Two workers hold 15,400/s, and 70 % of that are 10,780/s."""
    points = [ScalePoint(1, 8300), ScalePoint(2, 15_400), ScalePoint(4, 27_100)]
    assert demand_of(10_780, points).workers == (2, 2, 2, 0.95)
    answer = demand_of(10_800, points)
    assert (answer.kind, answer.workers) == ("measured", (4, 3, 4, 0.95))


def test_each_repeat_of_a_count_must_hold_the_rate():
    points = [ScalePoint(2, 16_000), ScalePoint(2, 15_000), ScalePoint(4, 27_000)]
    assert demand_of(0.7 * 15_500, points).workers.value == 4


def test_a_held_out_count_is_measured_too():
    points = [*measured([1, 2, 4, 8], 0.0, 0.0), ScalePoint(12, 96_000, held_out=True)]
    assert demand_of(0.7 * 90_000, points).workers == (12, 9, 12, 0.95)


def test_a_rate_beyond_the_tested_counts_is_a_forecast():
    rng = np.random.default_rng(1)
    answers = [
        demand_of(0.7 * law(11.9, 0.02, 0.0), measured(counts, 0.02, 0.0, 0.01, rng))
        for counts in [[1, 2, 3, 4, 6, 8, 10]] * 40
    ]
    forecasts = [answer.workers for answer in answers if answer.kind == "forecast"]
    assert len(forecasts) >= 0.9 * 40
    assert all(11 <= low <= value <= high <= 20 for value, low, high, _ in forecasts)
    assert np.mean([low <= 12 <= high for _, low, high, _ in forecasts]) >= 0.9


def test_four_near_linear_points_show_no_forecast():
    """They do not show where the curve bends: the interval has no upper end."""
    rng = np.random.default_rng(2)
    answers = [
        demand_of(0.7 * law(7, 0.01, 0.0), measured([1, 2, 3, 4], 0.01, 0.0, 0.02, rng))
        for _ in range(40)
    ]
    assert np.mean([answer.kind == "refused" for answer in answers]) >= 0.9
    assert all(answer.workers is None for answer in answers if answer.kind == "refused")
    assert {answer.refused_because.split(":")[0] for answer in answers} >= {
        "The tested counts do not show whether up to 8 workers hold it"
    }


def refusal(rate_per_s, points, **options):
    answer = demand_of(rate_per_s, points, **options)
    assert (answer.kind, answer.workers) == ("refused", None)
    return answer.refused_because


def test_too_few_counts_are_refused():
    assert "needs 4 distinct worker counts" in refusal(50_000, measured([1, 2, 4], 0.1, 0.0))


def test_a_forecast_beyond_twice_the_largest_count_is_refused():
    points = measured([1, 2, 4, 8], 0.0, 0.0)
    assert demand_of(0.7 * law(16, 0.0, 0.0) * 0.999, points).workers.value == 16
    because = refusal(0.7 * law(17, 0.0, 0.0), points)
    assert "more than 16 workers, which is 2 × the largest tested count, 8" in because


def test_partitions_cap_the_workers():
    points = measured([1, 2, 4, 8], 0.0, 0.0)
    because = refusal(0.7 * law(13, 0.0, 0.0), points, max_workers=12)
    assert "all 12 partitions is 96,000/s" in because


def test_a_rate_above_the_peak_is_refused():
    points = measured([1, 2, 4, 8, 10], 0.0, 0.01)  # the peak is at 10
    assert "its maximum of 42,105/s at 10 workers" in refusal(0.7 * 50_000, points)


@pytest.mark.parametrize(
    ("rate", "points", "utilization"),
    [(1, [], 0.7), (0, [ScalePoint(1, 1)], 0.7), (1, [ScalePoint(1, 1)], 1.1)],
)
def test_a_demand_of_nothing_is_rejected(rate, points, utilization):
    with pytest.raises(ValueError, match="needs a tested count"):
        demand(rate, points, None, utilization=utilization)
