"""Trends of an autocorrelated series: least squares, with an interval that is honest.

Neighbouring bins of a backlog are alike: near capacity a queue is a random walk. The usual interval
of least squares takes bins as independent. In simulated queues at capacity, its "95 %" interval
covers the truth in 20 % of the windows. Here the residuals are an autoregression of order one:

    uₜ = r·uₜ₋₁ + eₜ        variance of Σ wₜ·yₜ  =  −s² · Σᵢⱼ wᵢ·wⱼ · (1 − r^|i−j|) / (1 − r²)

The formula holds for weights with the sum zero, up to the random walk r = 1, where the last factor
is |i−j| / 2. `r` is corrected for the bias that a fitted line causes (Kendall 1954, Biometrika 41)
and then replaced by the upper end of its own interval. `s²` is the long-run variance of the
innovations, since averaging a random walk over bins makes neighbours alike (Working 1960,
Econometrica 28).
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from scoreline.pipelines.load_test.judge.elements import Floats, Interval

MIN_BINS = 6  # with fewer, three estimates leave too little to measure the noise
MAX_BINS = 64


def slope(values: Floats, width_s: float, *, confidence: float = 0.95) -> Interval:
    """Return the least squares slope of equally spaced values, per second.

    Raises:
      ValueError: there are fewer than 6 values.
    """
    at_s = np.arange(len(values)) * width_s
    centred = at_s - at_s.mean()
    return _contrast(values, centred / (centred @ centred), values, confidence)


def fall(values: Floats, *, confidence: float = 0.95) -> Interval:
    """Return mean of the first half − mean of the second half; a middle value is left out.

    The noise is that of the second half. In a warm-up the first half is not noise, but signal.

    Raises:
      ValueError: there are fewer than 12 values.
    """
    half = len(values) // 2
    weights = np.zeros(len(values))
    weights[:half], weights[-half:] = 1 / half, -1 / half
    return _contrast(values, weights, values[-half:], confidence)


def _contrast(values: Floats, weights: Floats, steady: Floats, confidence: float) -> Interval:
    """Return Σ weights · values with its t interval; the noise is measured in `steady` values."""
    count = len(steady)
    if count < MIN_BINS:
        raise ValueError(f"expected at least {MIN_BINS} values for a trend, got {count}")
    value = float(weights @ values)
    order = np.arange(count)
    residuals = steady - np.polyval(np.polyfit(order, steady, 1), order)
    energy = float(residuals @ residuals)
    if energy <= 1e-18 * float(values @ values):  # a straight line, up to rounding
        return Interval(value, value, value, confidence)
    r = _autocorrelation(residuals, energy)
    innovations = residuals[1:] - r * residuals[:-1]
    neighbours = max(0.0, float(innovations[1:] @ innovations[:-1]))
    variance = (float(innovations @ innovations) + 2 * neighbours) / (count - 3)
    everywhere = np.arange(len(values))
    apart = np.abs(everywhere[:, None] - everywhere[None, :])
    alike = apart / 2 if r > 1 - 1e-6 else (1 - r**apart) / (1 - r * r)
    error = np.sqrt(max(0.0, -float(weights @ alike @ weights) * variance))
    half_width = float(stdtrit(count - 2, 0.5 + confidence / 2) * error)
    return Interval(value, value - half_width, value + half_width, confidence)


def _autocorrelation(residuals: Floats, energy: float) -> float:
    """Return the upper end of the autocorrelation at lag one, between 0 and 1."""
    count = len(residuals)
    r = float(residuals[1:] @ residuals[:-1]) / energy
    r = (count * r + 2) / (count - 4)  # a fitted line makes it smaller by (2 + 4r) / count
    r += 2 * np.sqrt(max(0.0, 1 - r * r) / count)
    return float(min(1.0, max(0.0, r)))
