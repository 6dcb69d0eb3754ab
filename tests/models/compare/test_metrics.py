from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from scoreline.models.compare.metrics import Metric, evaluate_once, to_evaluate


def brute_force_auc(label, scores, weights):
    """The weighted share of pairs in which the positive row has the higher score."""
    won = total = 0.0
    for i in np.flatnonzero(label == 1):
        for j in np.flatnonzero(label == 0):
            pair = weights[i] * weights[j]
            total += pair
            won += pair * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
    return won / total


@given(
    rows=st.lists(
        # A few values only, so that there are ties; some rows are not drawn.
        st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 4)),
        min_size=2,
        max_size=40,
    )
)
def test_auc_is_that_of_all_pairs_with_ties_and_weights(rows):
    label, scores, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    drawn = [weights[label == each].sum() for each in (0, 1)]
    found = to_evaluate(Metric.AUC, label, scores)(weights[None])
    if min(drawn) == 0:
        assert np.isnan(found[0])
    else:
        assert found[0] == pytest.approx(brute_force_auc(label, scores, weights), abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 8])
def test_metrics_are_those_of_scikit_learn_for_each_row_of_weights(decimals):
    rng = np.random.default_rng(1)
    scores = np.round(rng.random(500), decimals).astype(np.float32)
    label = (rng.random(500) < scores).astype(float)
    weights = rng.integers(0, 5, (4, 500)).astype(float)
    ours = {metric: to_evaluate(metric, label, scores)(weights) for metric in Metric}
    for number, each in enumerate(weights):
        keys = {"sample_weight": each}
        auc = theirs.roc_auc_score(label, scores, **keys)
        assert ours[Metric.AUC][number] == pytest.approx(auc, abs=1e-12)
        loss = theirs.log_loss(label, scores.astype(float).clip(1.2e-7, 1 - 1.2e-7), **keys)
        assert ours[Metric.LOG_LOSS][number] == pytest.approx(loss, rel=1e-5)
        rmse = theirs.root_mean_squared_error(label, scores, **keys)
        assert ours[Metric.RMSE][number] == pytest.approx(rmse, rel=1e-6)
        mean = np.average(scores, weights=each)
        assert ours[Metric.AGREEMENT][number] == pytest.approx(mean, rel=1e-6)


def test_log_loss_of_several_classes():
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.0, 0.5, 0.5]])
    label = np.array([0.0, 2.0, 1.0])
    found = evaluate_once(to_evaluate(Metric.LOG_LOSS, label, scores), 3)
    assert found == pytest.approx(theirs.log_loss(label, scores))


def test_a_probability_of_0_for_what_came_true_is_finite():
    label, scores = np.array([1.0, 0.0]), np.array([0.0, 1.0], np.float32)
    assert evaluate_once(to_evaluate(Metric.LOG_LOSS, label, scores), 2) == pytest.approx(
        15.94, 0.01
    )
