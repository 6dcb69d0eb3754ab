"""How the capacity grows with the workers: a fit of the Universal Scalability Law."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scoreline.pipelines.load_test.judge.elements import Floats, Interval

MIN_COUNTS = 4

_PARAMETERS = 3

# The coefficients that are above 0. With c alone, one worker would be infinitely fast.
_SUPPORTS = ((0,), (1,), (0, 1), (0, 2), (1, 2), (0, 1, 2))

_SAMPLES = 1000
_SEED = 17

# Natural logarithm. Noise beyond a factor of 7 only breaks the arithmetic.
_MAX_NOISE = 2.0
_CONFIDENCE = 0.95


class ScalePoint(NamedTuple):
    """The capacity with a number of workers.

    Attributes:
      workers: number of workers.
      per_s: the capacity: the load that passes, not a midpoint.
      held_out: whether the fit leaves it out, so that it checks the fit.
    """

    workers: int
    per_s: float
    held_out: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Usl:
    """A fit of X(n) = λn ÷ (1 + α(n − 1) + βn(n − 1)).

    N. J. Gunther, Guerrilla Capacity Planning (2007). Workers beyond `max_workers` are idle.

    Attributes:
      lambda_per_s: rows per second of one worker.
      alpha: contention: the share of the work that only one worker can do at a time, 0 to 1.
      beta: coherency: the work that each pair of workers causes.
      max_workers: number of partitions; None for no limit.
      held_out_error: prediction ÷ measurement − 1 of the held out point, the largest of several;
        None without one.
      coefficients: s, b, c of n ÷ X(n) = s + bn + cn(n − 1).
      samples: the same of each bootstrap sample, shape [samples, 3].
    """

    lambda_per_s: float
    alpha: Interval
    beta: Interval
    max_workers: int | None
    held_out_error: float | None
    coefficients: Floats = dataclasses.field(repr=False, compare=False)
    samples: Floats = dataclasses.field(repr=False, compare=False)

    def per_s(self, workers: int) -> Interval:
        """Return the capacity of a number of workers, with its interval."""
        count = np.array([workers])
        return _interval(float(self.fitted_per_s(count)[0]), self.sampled_per_s(count)[:, 0])

    def fitted_per_s(self, workers: npt.NDArray[np.int_]) -> Floats:
        """Return the capacity of each number of workers by the fit."""
        return _per_s(self.coefficients, _effective(workers, self.max_workers))

    def sampled_per_s(self, workers: npt.NDArray[np.int_]) -> Floats:
        """Return the capacities by each bootstrap sample, shape [samples, counts]."""
        return _per_s(self.samples, _effective(workers, self.max_workers))

    @property
    def peak_workers(self) -> float:
        """Number of workers with the highest capacity, √((1 − α) ÷ β); infinite for β = 0."""
        serial, _, pairs = self.coefficients
        return max(1.0, math.sqrt(serial / pairs)) if pairs else math.inf


def hold_out(points: Sequence[ScalePoint]) -> tuple[ScalePoint, ...]:
    """Mark the largest count as held out, if enough counts are left to fit the rest."""
    counts = sorted({point.workers for point in points})
    if len(counts) <= MIN_COUNTS:
        return tuple(points)
    return tuple(point._replace(held_out=point.workers == counts[-1]) for point in points)


def fit_usl(
    points: Sequence[ScalePoint], *, max_workers: int | None = None, precision: float = 0.0
) -> Usl | None:
    """Fit the law to the points that are not held out; None with fewer than 4 distinct counts.

    The fit minimizes the squared relative residuals under 0 ≤ α ≤ 1 and 0 ≤ β. In the form
    n ÷ X(n) = s + bn + cn(n − 1), with λ = 1 ÷ (s + b), α = b ÷ (s + b), β = c ÷ (s + b), that is
    a linear problem with coefficients of at least 0, which has one solution.

    The intervals come from a residual bootstrap with random signs. Residuals of few points are
    smaller than the noise, and do not show how large it is. Therefore residuals are scaled by
    √(points ÷ degrees of freedom), and each sample draws the size of the noise too, from its χ²
    distribution. So intervals are as wide as those of Student's t: with 4 counts, very wide.

    Args:
      points: the capacity by workers; more than one per count is allowed.
      max_workers: number of partitions.
      precision: precision of the capacities, as a share. The noise is at least what it hides.
    """
    used = [point for point in points if not point.held_out]
    counts = _effective(np.array([point.workers for point in used]), max_workers)
    if len(set(counts.tolist())) < MIN_COUNTS:
        return None
    per_s = np.array([point.per_s for point in used], float)
    coefficients = _fit(counts, per_s)
    fitted = _per_s(coefficients, counts)
    noise = _noise(per_s / fitted - 1, precision / math.sqrt(12))  # a uniform distribution
    # A capacity is above 0, so noise multiplies.
    samples = _fit(counts, fitted * np.exp(noise))
    lambda_, alpha, beta = _law(coefficients)
    _, alphas, betas = _law(samples)
    held_out = [point for point in points if point.held_out]
    predicted = _per_s(
        coefficients, _effective(np.array([point.workers for point in held_out]), max_workers)
    )
    errors = [float(x) / point.per_s - 1 for x, point in zip(predicted, held_out, strict=True)]
    return Usl(
        lambda_per_s=float(lambda_),
        alpha=_interval(float(alpha), alphas),
        beta=_interval(float(beta), betas),
        max_workers=max_workers,
        held_out_error=max(errors, key=abs, default=None),
        coefficients=coefficients,
        samples=samples,
    )


def _effective(workers: npt.NDArray[np.int_], max_workers: int | None) -> Floats:
    return np.minimum(workers, math.inf if max_workers is None else max_workers)


def _noise(residuals: Floats, min_deviation: float) -> Floats:
    """Return relative noise for each bootstrap sample, shape [samples, points]."""
    rng = np.random.default_rng(_SEED)
    freedom = len(residuals) - _PARAMETERS
    residuals = residuals * math.sqrt(len(residuals) / freedom)
    if np.sqrt(np.mean(residuals**2)) < min_deviation:
        residuals = np.full(len(residuals), min_deviation)
    shape = (_SAMPLES, len(residuals))
    noise = rng.choice(residuals, shape) * rng.choice([-1.0, 1.0], shape)
    noise = noise * np.sqrt(freedom / rng.chisquare(freedom, (_SAMPLES, 1)))
    return np.clip(noise, -_MAX_NOISE, _MAX_NOISE)


def _basis(workers: Floats) -> Floats:
    return np.stack([np.ones_like(workers), workers, workers * (workers - 1)], axis=-1)


def _fit(workers: Floats, per_s: Floats) -> Floats:
    """Return s, b, c of n ÷ X(n), each at least 0; the last axis of `per_s` is the points.

    The non-negative solution of least squares is the plain one on some of the columns: the best
    of those that are not negative. There are 6 choices, which numpy solves for all bootstrap
    samples at once; `scipy.optimize.nnls` takes one sample at a time.
    """
    rows = _basis(workers) * (per_s / workers)[..., None]
    norms = np.sqrt((rows**2).sum(axis=-2, keepdims=True))
    rows = rows / norms
    gram = np.swapaxes(rows, -1, -2) @ rows
    target = rows.sum(axis=-2)
    best = np.zeros_like(target)
    explained = np.zeros(target.shape[:-1])
    for columns in _SUPPORTS:
        solved = np.linalg.solve(
            gram[..., columns, :][..., columns], target[..., columns][..., None]
        )[..., 0]
        gain = (solved * target[..., columns]).sum(axis=-1)
        is_better = (solved > 0).all(axis=-1) & (gain > explained)
        candidate = np.zeros_like(target)
        candidate[..., columns] = solved
        best = np.where(is_better[..., None], candidate, best)
        explained = np.where(is_better, gain, explained)
    return best / norms[..., 0, :]


def _per_s(coefficients: Floats, workers: Floats) -> Floats:
    return workers / (coefficients @ _basis(workers).T)


def _law(coefficients: Floats) -> tuple[Floats, Floats, Floats]:
    """Return λ, α, β."""
    s, b, c = coefficients.T
    return 1 / (s + b), b / (s + b), c / (s + b)


def _interval(value: float, samples: Floats) -> Interval:
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Interval(value, min(float(low), value), max(float(high), value), _CONFIDENCE)
