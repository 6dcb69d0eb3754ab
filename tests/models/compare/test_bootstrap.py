from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from scoreline.models.compare import bootstrap
from scoreline.models.compare.bootstrap import resample_differences, to_interval
from scoreline.models.compare.metrics import Metric, evaluate_once, to_evaluate

SIMULATIONS = 400
ROWS = 500


def auc_simulation(rng):
    """Scores of two normal distributions: AUC = Φ(distance ÷ √(sum of variances))."""
    label = (rng.random(ROWS) < 0.3).astype(float)
    parent = rng.normal(size=ROWS) + label
    variant = parent + 0.5 * rng.normal(size=ROWS)
    aucs = [NormalDist().cdf(1 / math.sqrt(2 * var)) for var in (1, 1.25)]
    return label, parent, variant, aucs[1] - aucs[0]


def rmse_simulation(rng):
    label = rng.normal(size=ROWS)
    parent = label + rng.normal(size=ROWS)
    variant = parent + 0.3 * rng.normal(size=ROWS)
    return label, parent, variant, math.sqrt(1.09) - 1


def agreement_simulation(rng):
    """Decisions of which 3 % differ: few rows, so that the distribution is skewed."""
    return None, np.ones(ROWS), (rng.random(ROWS) > 0.03).astype(float), -0.03


def log_loss_simulation(rng):
    """Scores of which the variant's are too near to 0.5 by a known factor."""
    true = rng.choice([0.2, 0.8], ROWS)
    label = (rng.random(ROWS) < true).astype(float)
    variant = np.where(true > 0.5, 0.7, 0.3)
    loss = [-(0.8 * math.log(p) + 0.2 * math.log(1 - p)) for p in (0.8, 0.7)]
    return label, true, variant, loss[1] - loss[0]


@pytest.mark.parametrize(
    ("metric", "simulate"),
    [
        (Metric.AUC, auc_simulation),
        (Metric.RMSE, rmse_simulation),
        (Metric.LOG_LOSS, log_loss_simulation),
        (Metric.AGREEMENT, agreement_simulation),
    ],
)
def test_intervals_contain_the_true_difference(metric, simulate):
    inside = 0
    for seed in range(SIMULATIONS):
        rng = np.random.default_rng(seed)
        label, parent, variant, truth = simulate(rng)
        evaluate = [to_evaluate(metric, label, scores) for scores in (parent, variant)]
        before, after = (evaluate_once(each, ROWS) for each in evaluate)
        resampled = resample_differences(*evaluate, ROWS, resamples=300, seed=seed)
        found = to_interval(after - before, resampled)
        assert found.low <= found.value <= found.high
        inside += found.low <= truth <= found.high
    # Not far more than 95 % either: then too many rows would be asked for.
    assert 0.93 <= inside / SIMULATIONS <= 0.98


def test_rows_are_drawn_in_pairs():
    rng = np.random.default_rng(1)
    label = rng.normal(size=ROWS)
    parent = to_evaluate(Metric.RMSE, label, label + rng.normal(size=ROWS))
    assert not resample_differences(parent, parent, ROWS, resamples=50).any()


def test_the_seed_decides_and_not_the_size_of_chunks(monkeypatch):
    rng = np.random.default_rng(1)
    label, parent, variant, _ = auc_simulation(rng)
    evaluate = [to_evaluate(Metric.AUC, label, scores) for scores in (parent, variant)]
    found = resample_differences(*evaluate, ROWS, resamples=50, seed=3)
    assert np.array_equal(found, resample_differences(*evaluate, ROWS, resamples=50, seed=3))
    assert not np.array_equal(found, resample_differences(*evaluate, ROWS, resamples=50, seed=4))
    monkeypatch.setattr(bootstrap, "_CHUNK_VALUES", 3 * ROWS)
    again = resample_differences(*evaluate, ROWS, resamples=50, seed=3)
    assert np.allclose(found, again, rtol=0, atol=1e-12)


def test_each_draw_has_as_many_rows_as_there_are():
    drawn = []

    def keep(weights):
        drawn.append(weights.copy())
        return np.zeros(len(weights))

    resample_differences(lambda weights: np.zeros(len(weights)), keep, 50, resamples=2000)
    weights = np.concatenate(drawn)
    assert weights.shape == (2000, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.02)  # of the multinomial distribution


def test_resamples_without_a_class_do_not_count():
    assert to_interval(0.5, np.array([np.nan, 0.4, 0.6])).low == pytest.approx(0.4, abs=0.01)
    with pytest.raises(ValueError, match="expected a resample with rows of both classes"):
        to_interval(0.5, np.array([np.nan]))
