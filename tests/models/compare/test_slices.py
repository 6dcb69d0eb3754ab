from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from scoreline.models.compare.metrics import Metric
from scoreline.models.compare.slices import (
    Scored,
    count_rejected,
    find_slice_problems,
    measure_slices,
)


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        ([], 0),
        ([0.04], 1),
        ([0.01, 0.02], 2),
        ([0.01, 0.03, 0.03], 1),  # 0.03 > 0.05 ÷ 2: not rejected, nor any after it
        ([0.016, 0.025, 0.05], 3),
        ([0.02, 0.02, 0.02], 0),
    ],
)
def test_holms_rule(p_values, rejected):
    assert count_rejected(p_values) == rejected


def simulate(rng, slices=6, rows=1000, loss=0.0):
    """Decisions of which each slice loses the same share."""
    variant = (rng.random(slices * rows) > loss).astype(float)
    return Scored(None, np.ones(slices * rows), variant), pa.array(np.repeat(range(slices), rows))


def test_at_the_limit_there_is_an_alarm_in_about_5_percent_whatever_the_number_of_slices():
    # A slice may lose three times 1 %.
    alarms = 0
    for seed in range(60):
        scored, column = simulate(np.random.default_rng(seed), loss=0.03)
        found = measure_slices(Metric.AGREEMENT, scored, {"c": column}, 0.01)
        assert found.limit == pytest.approx(0.03)
        alarms += bool(found.worse)
    assert alarms <= 7


def test_slices_that_are_too_small_are_counted_and_not_judged():
    rng = np.random.default_rng(1)
    names = pa.array(["a"] * 1000 + ["b"] * 999 + [None] * 1000 + ["rare"] * 1000)
    label = (rng.random(3999) < 0.5).astype(float)
    label[2999:] = 0
    label[3000:3049] = 1  # 49 of one class
    parent = rng.normal(size=3999)
    scored = Scored(label, parent, parent)
    found = measure_slices(Metric.AUC, scored, {"c": names.dictionary_encode()}, 0.01)
    assert (found.judged, found.too_small, found.worse) == (2, 2, ())
    assert found.worst.p_value == 1.0
    assert found.worst.value in {"a", "null"}
    assert find_slice_problems(found) == []
    rmse = measure_slices(Metric.RMSE, scored, {"c": names}, 0.01)
    assert (rmse.judged, rmse.too_small) == (3, 1)
    none = measure_slices(Metric.RMSE, scored, {"c": pa.array(range(3999))}, 0.01)
    assert (none.judged, none.too_small, none.worst) == (0, 3999, None)


def test_every_slice_of_every_column_that_is_worse_is_named_the_worst_first():
    variant = np.ones(4000)
    variant[:1000], variant[1000:2000] = 0.2, 0.6
    scored = Scored(None, np.ones(4000), variant)
    columns = {
        "day": pa.array(np.repeat(["mon", "tue", "wed", "thu"], 1000)),
        "weekend": pa.array(np.zeros(4000, bool)),
    }
    found = measure_slices(Metric.AGREEMENT, scored, columns, 0.01)
    assert [each.value for each in found.worse] == ["mon", "tue", "False"]
    assert found.worst == found.worse[0]
    (reason,) = find_slice_problems(found)
    assert reason.startswith(
        "expected no slice to lose more than 0.03, got 3 of 5: day=mon changes by -0.8 ± "
    )
    assert reason.endswith(" on 1,000 rows, and 2 more")
