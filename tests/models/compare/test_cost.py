from __future__ import annotations

import re

import numpy as np
import pytest

from scoreline.models.compare.cost import Pair, find_cost_problems, measure_ratio


def pairs_of(ratios):
    return [Pair(2.0 + number, (2.0 + number) * ratio) for number, ratio in enumerate(ratios)]


@pytest.mark.parametrize(
    ("count", "beyond", "confidence"),
    # Of tables of the binomial distribution: see nonparametric intervals of the median.
    [(5, 0, 0.9375), (7, 0, 0.984), (8, 1, 0.930), (10, 1, 0.979), (11, 2, 0.935), (15, 3, 0.965)],
)
def test_the_ends_are_order_statistics_that_are_wrong_in_5_percent_at_most(
    count, beyond, confidence
):
    ratios = [0.5 + number / 100 for number in range(count)]
    found = measure_ratio(pairs_of(np.random.default_rng(1).permutation(ratios))).ratio
    assert found.low == pytest.approx(ratios[beyond])
    assert found.high == pytest.approx(ratios[-1 - beyond])
    assert found.confidence == pytest.approx(confidence, abs=0.001)


@pytest.mark.parametrize("count", [5, 8, 11])
def test_a_variant_that_is_not_cheaper_is_admitted_in_at_most_5_percent(count):
    rng = np.random.default_rng(1)
    admitted = 0
    for _ in range(2000):
        # One of ten turns is disturbed, as on a shared machine.
        disturbed = 1 + (rng.random(count) < 0.1) * rng.exponential(1, count)
        ratios = 0.95 * np.exp(0.05 * rng.normal(size=count)) * disturbed
        admitted += not find_cost_problems(measure_ratio(pairs_of(ratios)))
    assert admitted / 2000 <= 0.05


def test_the_figures():
    found = measure_ratio([Pair(10.0, 6.0), Pair(20.0, 10.0), *pairs_of([0.5] * 6)])
    assert found.pairs == 8
    assert found.parent_us_per_row == 5.5
    assert found.ratio.value == 0.5


def test_one_disturbed_turn_of_eight_does_no_harm():
    assert not find_cost_problems(measure_ratio(pairs_of([0.8] * 7 + [3.0])))
    assert find_cost_problems(measure_ratio(pairs_of([0.8] * 6 + [3.0])))


@pytest.mark.parametrize(
    ("ratios", "told"),
    [
        ([0.99, 1.0, 1.01, 1.02, 1.03], "got 1.010 [0.990, 1.030]: 4.04 for 4 µs per row in 5 pai"),
        ([0.96] * 5, "The variant is not cheaper"),
        ([0.8, 0.81, 0.82, 0.83, 0.99], "Measure more pairs, on a machine that does nothing else"),
    ],
)
def test_the_reason_tells_a_dear_variant_from_a_noisy_measurement(ratios, told):
    (reason,) = find_cost_problems(measure_ratio(pairs_of(ratios)))
    assert told in reason


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (pairs_of([0.5] * 4), "expected at least 5 pairs of measurements, got 4"),
        (
            [*pairs_of([0.5] * 4), Pair(0.0, 1.0)],
            "expected CPU times above 0 µs per row, got 0 and",
        ),
        ([*pairs_of([0.5] * 4), Pair(1.0, float("nan"))], "got 1 and nan"),
    ],
)
def test_measurements_that_prove_nothing_are_errors(pairs, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        measure_ratio(pairs)
