"""Paired bootstrap: intervals of the difference between two models on the same rows.

Each resample draws as many rows as there are, with replacement (Efron 1979). Both models are
evaluated on the same draw, so that what they share cancels out.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from scoreline.models.compare.metrics import Evaluate, Floats

RESAMPLES = 1000
CONFIDENCE = 0.95
# Weights in memory at a time: few enough for the processor's cache.
_CHUNK_VALUES = 1 << 17


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
      value: the estimate.
      low: the lower end.
      high: the upper end.
      confidence: the share of such intervals that contain the true value.
    """

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def resample_differences(
    parent: Evaluate, variant: Evaluate, rows: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """Return variant − parent for each resample of the rows.

    Args:
      parent: computes the parent's metric from weights.
      variant: computes the variant's metric from the same weights.
      rows: the number of rows.
      resamples: the number of draws.
      seed: the same seed has the same draws.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK_VALUES // rows)
    differences = []
    for start in range(0, resamples, step):
        draws = min(step, resamples - start)
        drawn = rng.integers(0, rows, (draws, rows))
        drawn += np.arange(draws)[:, None] * rows
        counts = np.bincount(drawn.ravel(), minlength=draws * rows)
        weights = counts.reshape(draws, rows).astype(float)
        differences.append(variant(weights) - parent(weights))
    return np.concatenate(differences)


def to_interval(value: float, resampled: Floats, confidence: float = CONFIDENCE) -> Interval:
    """Return the percentile interval of an estimate; resamples without a value do not count."""
    tail = (1.0 - confidence) / 2
    known = resampled[~np.isnan(resampled)]
    if not known.size:
        raise ValueError("expected a resample with rows of both classes, got none; give more rows")
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high), confidence)
