from __future__ import annotations

import numpy as np
import pytest

from scoreline.models.compare.bootstrap import Interval
from scoreline.models.compare.metrics import Metric
from scoreline.models.compare.quality import (
    Quality,
    Tolerance,
    find_quality_problems,
    measure_quality,
)


@pytest.mark.parametrize(
    ("text", "parent", "wanted"),
    [
        ("0.001", 0.8, 0.001),
        ("5e-3", 12.0, 0.005),
        ("mlperf-99", 0.8, 0.008),
        ("mlperf-99.9", 12.0, 0.012),
    ],
)
def test_a_tolerance_is_a_number_or_a_share_of_the_parents_metric(text, parent, wanted):
    assert Tolerance.parse(text).of(parent) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mlperf-98", "such as 0.001, or mlperf-99 or mlperf-99.9, got 'mlperf-98'"),
        ("0", "expected a tolerance above 0, got 0. No number of rows proves that nothing is lost"),
        ("-1", "above 0, got -1"),
        ("nan", "above 0, got nan"),
        ("inf", "above 0, got inf"),
    ],
)
def test_a_wrong_tolerance(text, told):
    with pytest.raises(ValueError, match=told):
        Tolerance.parse(text)


def quality(change, rows=10_000, needed=5000):
    return Quality(
        metric=Metric.AUC,
        rows=rows,
        parent=0.7,
        variant=0.7 + change.value,
        change=change,
        tolerance=0.01,
        rows_needed=needed,
    )


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (quality(Interval(-0.005, -0.01, 0.0)), ""),
        (quality(Interval(0.02, 0.01, 0.03)), ""),
        (quality(Interval(-0.005, -0.0101, 0.0), needed=11_000), "Give about 11,000 rows"),
        (quality(Interval(-0.02, -0.03, -0.0099), needed=11_000), "Give about 11,000 rows"),
        (quality(Interval(-0.02, -0.03, -0.0101)), "The variant is worse"),
        (quality(Interval(-0.009, -0.011, -0.007)), "this one is too near the tolerance, or worse"),
        (quality(Interval(0.0, 0.0, 0.0), rows=4999), "Give about 5,000 rows"),
    ],
)
def test_the_end_of_the_interval_decides(found, told):
    problems = find_quality_problems(found)
    assert len(problems) == bool(told)
    assert told in "".join(problems)


def test_a_loss_that_falls_is_a_change_above_0():
    rng = np.random.default_rng(1)
    label = rng.normal(size=2000)
    parent, variant = label + rng.normal(size=2000), label + 0.5 * rng.normal(size=2000)
    found = measure_quality(Metric.RMSE, label, parent, variant, Tolerance(0.1))
    assert found.variant == pytest.approx(0.5, abs=0.05)
    assert found.change.value == pytest.approx(found.parent - found.variant)
    assert 0.4 < found.change.low < found.change.high < 0.6
    assert find_quality_problems(found) == []


def test_each_class_needs_rows():
    label = np.zeros(4000)
    label[:20] = 1
    scores = np.random.default_rng(1).random(4000)
    found = measure_quality(Metric.AUC, label, scores, scores, Tolerance(0.01))
    assert found.rows_needed == 10_000  # 50 of 20 in 4,000


@pytest.mark.parametrize(("tolerance", "needed"), [(0.1, 1000), (0.001, 3689), (0.0001, 36_889)])
def test_rows_show_a_defect_in_a_share_of_them_as_large_as_the_tolerance(tolerance, needed):
    same = np.ones(2000)
    found = measure_quality(Metric.AGREEMENT, None, same, same, Tolerance(tolerance))
    assert found.rows_needed == needed
    # If a share of 0.1 % is wrong, some of 3,689 rows are wrong in 97.5 % of all samples.
    assert 1 - (1 - tolerance) ** max(needed, 37) == pytest.approx(0.975, abs=0.03)


def test_a_perfect_parent_has_no_relative_tolerance():
    label = np.arange(2000.0)
    found = measure_quality(
        Metric.RMSE, label, label, label, Tolerance.parse("mlperf-99"), resamples=10
    )
    assert found.rows_needed is None
    assert find_quality_problems(found)[0].endswith("No rows can prove it")
