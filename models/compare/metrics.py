"""Metrics of scores, for many weights of the rows at once.

A bootstrap resample is a weight for each row: how often it was drawn. All that does not depend on
the weights, such as sorting for the AUC, is done once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
# Weights of shape [resamples, rows] → the metric of each resample.
Evaluate: TypeAlias = Callable[[Floats], Floats]

# Probabilities are kept this far from 0 and 1, which have no logarithm: the precision of float32.
_MIN_PROBABILITY = float(np.finfo(np.float32).eps)


class Metric(enum.StrEnum):
    """A measure of how good scores are.

    AUC and log loss take labels of 0 and 1; log loss takes classes too, if a score is a list of
    probabilities. RMSE takes numbers. Agreement takes no label: it is 1 − the difference to the
    parent's scores.
    """

    AUC = "auc"
    LOG_LOSS = "log_loss"
    RMSE = "rmse"
    AGREEMENT = "agreement"

    @property
    def in_words(self) -> str:
        """Its name in a sentence."""
        return _TITLES[self]

    @property
    def is_loss(self) -> bool:
        """Whether less is better."""
        return self in (Metric.LOG_LOSS, Metric.RMSE)


_TITLES = {
    Metric.AUC: "AUC",
    Metric.LOG_LOSS: "log loss",
    Metric.RMSE: "RMSE",
    Metric.AGREEMENT: "agreement",
}


def to_evaluate(metric: Metric, label: np.ndarray | None, scores: np.ndarray) -> Evaluate:
    """Return the function that computes a metric of scores from weights of their rows.

    Args:
      metric: the metric.
      label: the label of each row; None for agreement, whose scores are the agreement of each row.
      scores: finite numbers, one for each row; log loss also takes a list of probabilities.
    """
    if label is None or metric is Metric.AGREEMENT:
        return mean_of(np.asarray(scores, float))
    if metric is Metric.AUC:
        return auc_of(label, scores)
    if metric is Metric.LOG_LOSS:
        return mean_of(log_losses(label, scores))
    mean_square = mean_of((np.asarray(scores, float) - label) ** 2)
    return lambda weights: np.sqrt(mean_square(weights))


def evaluate_once(evaluate: Evaluate, rows: int) -> float:
    """Return the metric of rows that have equal weights."""
    return float(evaluate(np.ones((1, rows)))[0])


def mean_of(values: Floats) -> Evaluate:
    """Return the function that computes the weighted mean of one value per row."""
    return lambda weights: np.asarray(weights @ values / weights.sum(axis=1))


def auc_of(label: np.ndarray, scores: np.ndarray) -> Evaluate:
    """Return the function that computes the area under the ROC curve from weights.

    It is the weight of the pairs of a positive and a negative row in which the positive row has the
    higher score; a tie counts half (Mann and Whitney 1947). A resample without one of the two
    classes has NaN.
    """
    is_positive = np.asarray(label, bool)
    negative = np.flatnonzero(~is_positive)
    negative = negative[np.argsort(scores[negative], kind="stable")]
    positive = np.flatnonzero(is_positive)
    positive = positive[np.argsort(scores[positive], kind="stable")]  # for nearby reads
    ordered = scores[negative]
    below = np.searchsorted(ordered, scores[positive], "left")
    up_to = np.searchsorted(ordered, scores[positive], "right")
    has_ties = bool((below != up_to).any())

    def evaluate(weights: Floats) -> Floats:
        summed = np.zeros((len(weights), len(negative) + 1))
        np.cumsum(weights[:, negative], axis=1, out=summed[:, 1:])
        drawn = weights[:, positive]
        pairs = np.einsum("ij,ij->i", drawn, summed[:, below])
        if has_ties:
            pairs = (pairs + np.einsum("ij,ij->i", drawn, summed[:, up_to])) / 2
        with np.errstate(invalid="ignore"):
            return np.asarray(pairs / (drawn.sum(axis=1) * summed[:, -1]))

    return evaluate


def log_losses(label: np.ndarray, scores: np.ndarray) -> Floats:
    """Return −log of the probability that each row's score gives to its label."""
    if scores.ndim == 1:
        given = np.where(np.asarray(label, bool), scores, 1.0 - scores.astype(float))
    else:
        given = scores[np.arange(len(scores)), np.asarray(label, np.int64)]
    return np.asarray(-np.log(np.clip(given, _MIN_PROBABILITY, 1.0 - _MIN_PROBABILITY)), float)


def count_classes(label: np.ndarray) -> Sequence[int]:
    """Return the number of rows without, and with, a label of 0 or 1."""
    positive = int(np.count_nonzero(label))
    return len(label) - positive, positive
