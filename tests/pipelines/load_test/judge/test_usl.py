"""The fit of the Universal Scalability Law, against data with known parameters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import optimize

from scoreline.pipelines.load_test.judge.usl import ScalePoint, fit_usl, hold_out


def law(workers, alpha, beta, lambda_per_s=8000.0):
    return lambda_per_s * workers / (1 + alpha * (workers - 1) + beta * workers * (workers - 1))


def measured(counts, alpha, beta, noise=0.0, rng=None):
    errors = np.zeros(len(counts)) if rng is None else rng.normal(0, noise, len(counts))
    return [
        ScalePoint(n, law(n, alpha, beta) * (1 + e)) for n, e in zip(counts, errors, strict=True)
    ]


@pytest.mark.parametrize(("alpha", "beta"), [(0, 0), (0.05, 0), (0.5, 0), (0.1, 0.01), (0, 0.02)])
def test_data_without_noise_give_their_parameters(alpha, beta):
    usl = fit_usl(measured([1, 2, 4, 8], alpha, beta))
    assert usl.lambda_per_s == pytest.approx(8000)
    assert usl.alpha == pytest.approx((alpha, alpha, alpha, 0.95), abs=1e-9)
    assert usl.beta == pytest.approx((beta, beta, beta, 0.95), abs=1e-9)
    assert usl.per_s(16).value == pytest.approx(law(16, alpha, beta))


@pytest.mark.parametrize(
    ("counts", "alpha", "beta", "noise"),
    [
        ([1, 2, 4, 8], 0.05, 0.001, 0.03),
        ([1, 2, 3, 4, 6, 8], 0.2, 0.01, 0.01),
        ([1, 2, 3, 4, 6, 8], 0.5, 0.0, 0.02),
    ],
)
def test_the_intervals_cover_the_truth(counts, alpha, beta, noise):
    rng = np.random.default_rng(17)
    covered = np.zeros(3)
    for _ in range(100):
        usl = fit_usl(measured(counts, alpha, beta, noise, rng))
        at_12 = usl.per_s(12)
        covered += [
            usl.alpha.low <= alpha <= usl.alpha.high,
            usl.beta.low <= beta <= usl.beta.high,
            at_12.low <= law(12, alpha, beta) <= at_12.high,
        ]
    assert (covered >= 90).all()


def test_more_counts_and_repeats_make_the_intervals_narrower():
    rng = np.random.default_rng(3)

    def width(counts):
        fits = [fit_usl(measured(counts, 0.1, 0.001, 0.02, rng)) for _ in range(9)]
        return np.median([usl.alpha.high - usl.alpha.low for usl in fits])

    assert width([1, 2, 4, 8]) > 2 * width([1, 2, 4, 8] * 3)


def test_exact_data_are_not_more_exact_than_their_precision():
    points = measured([1, 2, 4, 8], 0.1, 0.001)
    usl = fit_usl(points, precision=0.05)
    assert usl.alpha.low < 0.09 < 0.11 < usl.alpha.high
    assert fit_usl(points).alpha.high < 0.1001


def test_twelve_workers_are_predicted_from_up_to_eight():
    """A model that waits scales almost linearly: 12 workers are within 10 % of the forecast."""
    rng = np.random.default_rng(5)
    errors = []
    for _ in range(40):
        points = hold_out(measured([1, 2, 4, 8, 12], 0.01, 0.0, 0.015, rng))
        assert [point.held_out for point in points] == [False] * 4 + [True]
        errors.append(fit_usl(points).held_out_error)
    assert np.mean(np.abs(errors) < 0.10) > 0.9


def test_a_held_out_point_does_not_change_the_fit():
    points = measured([1, 2, 4, 8], 0.1, 0.001)
    usl = fit_usl([*points, ScalePoint(16, law(16, 0.1, 0.001) / 1.25, held_out=True)])
    assert usl.held_out_error == pytest.approx(0.25)
    assert dataclasses.replace(usl, held_out_error=None) == fit_usl(points)


@pytest.mark.parametrize("counts", [[], [1, 2, 4], [1, 2, 4, 4, 4]])
def test_fewer_than_four_distinct_counts_give_no_fit(counts):
    points = measured(counts, 0.1, 0.0)
    assert fit_usl(points) is None
    assert hold_out(points) == tuple(points)


def test_workers_beyond_the_partitions_are_idle():
    points = measured([1, 2, 4, 6], 0.1, 0.0)
    usl = fit_usl([*points, ScalePoint(8, law(6, 0.1, 0.0))], max_workers=6)
    assert usl.alpha.value == pytest.approx(0.1)
    assert usl.per_s(12) == usl.per_s(6)


@given(st.lists(st.floats(1e3, 1e5), min_size=4, max_size=7))
def test_the_fit_is_the_one_of_scipy(per_s):
    counts = np.arange(1.0, len(per_s) + 1)
    usl = fit_usl([ScalePoint(int(n), value) for n, value in zip(counts, per_s, strict=True)])
    basis = np.stack([np.ones_like(counts), counts, counts * (counts - 1)], axis=1)
    rows = basis * (np.array(per_s) / counts)[:, None]
    solution, best = optimize.nnls(rows, np.ones(len(rows)))
    assume(solution[:2].any())
    assert (usl.coefficients >= 0).all()
    assert np.linalg.norm(rows @ usl.coefficients - 1) == pytest.approx(best, abs=1e-6)


@given(
    st.lists(st.floats(1e2, 1e5), min_size=4, max_size=7),
    st.floats(1e-3, 1e3),
    st.randoms(use_true_random=False),
)
def test_any_capacities_give_a_fit_that_ignores_order_and_unit(per_s, unit, random):
    points = [ScalePoint(count, value) for count, value in enumerate(per_s, start=1)]
    usl = fit_usl(points)
    assert 0 <= usl.alpha.low <= usl.alpha.value <= usl.alpha.high <= 1
    assert 0 <= usl.beta.low <= usl.beta.value <= usl.beta.high
    shuffled = [point._replace(per_s=point.per_s * unit) for point in points]
    random.shuffle(shuffled)
    other = fit_usl(shuffled)
    assert other.lambda_per_s == pytest.approx(usl.lambda_per_s * unit, rel=1e-4)
    assert other.alpha.value == pytest.approx(usl.alpha.value, abs=1e-4)
    assert other.beta.value == pytest.approx(usl.beta.value, abs=1e-4)
