from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from scoreline.models.compare.disagreement import disagreement_of
from scoreline.models.compare.parity import agreement_by_row, measure_parity
from scoreline.models.rounding import read_scores


def floats(*values):
    return pa.array(values, pa.float32())


def test_the_figures_of_numbers():
    rng = np.random.default_rng(1)
    parent = rng.normal(5, 2, 10_000)
    apart = np.zeros(10_000)
    apart[:20] = np.arange(1, 21)  # the 99.9th percentile is the tenth of them
    found = measure_parity("y", pa.array(parent), pa.array(parent + apart), 8.0)
    assert found.output == "y"
    assert found.changed_rows == 20
    assert found.max_difference == pytest.approx(20)
    assert found.p999_difference == pytest.approx(10.5, abs=0.6)
    assert found.shift == pytest.approx(210 / 10_000 / np.std(parent))
    assert found.disagreement == pytest.approx(found.shift)
    wanted = np.sqrt(np.mean((parent + apart) ** 2) / np.mean(parent**2))
    assert found.scale == pytest.approx(wanted)
    flipped = np.sum((parent < 8) & (parent + apart >= 8))
    assert found.flipped_rows == flipped > 0
    assert (found.one_sided_rows, found.is_constant) == (0, False)


def test_rows_of_numbers_that_are_finite_in_one_model_only():
    parent = floats(1, math.nan, math.inf, 2, math.inf)
    found = measure_parity("y", parent, floats(1, math.nan, math.inf, math.nan, -math.inf))
    assert found.one_sided_rows == 2
    assert found.max_difference == 0
    assert not found.can_be_judged


@pytest.mark.parametrize(
    ("parent", "variant", "is_constant"),
    [
        (floats(1, 2, 3), floats(2, 2, 2), True),
        (floats(1, 2, 3), floats(1, 1 + 1e-7, 1), True),
        (floats(1, 2, 3), floats(0, 0, 0), True),
        (floats(1, 2, 3), floats(0, 0, 1e-9), False),
        (floats(1, 1, 1), floats(1, 1, 1), False),  # as it is in the parent
        (pa.array(["a", "b"]), pa.array(["a", "a"]), True),
        (pa.array([1, 2]), pa.array([2, 2]), True),
        (pa.array([[1.0, 2.0], [3.0, 4.0]]), pa.array([[1.0, 2.0], [1.0, 2.0]]), True),
        (pa.array([[1.0, 2.0], [3.0, 4.0]]), pa.array([[1.0, 2.0], [1.0, 3.0]]), False),
    ],
)
def test_a_constant_output(parent, variant, is_constant):
    assert measure_parity("y", parent, variant).is_constant == is_constant


def test_texts_and_whole_numbers_have_no_distance():
    found = measure_parity("y", pa.array(["a", "b", "c", "d"]), pa.array(["a", "b", "x", "y"]))
    assert (found.changed_rows, found.disagreement) == (2, 0.5)
    assert found.max_difference is found.scale is found.shift is None
    found = measure_parity("y", pa.array([1, 2]), pa.array([1, 200]))
    assert (found.changed_rows, found.max_difference) == (1, None)


def test_lists_that_differ_in_length_have_no_scale():
    found = measure_parity("y", pa.array([[1.0], [2.0, 3.0]]), pa.array([[1.0], [2.0, 3.0, 4.0]]))
    assert (found.scale, found.disagreement, found.changed_rows) == (None, 0.5, 1)


def test_a_difference_from_a_constant_is_infinite_and_not_a_number_of_json():
    assert measure_parity("y", floats(0, 0), floats(0, 2)).disagreement is None


@pytest.mark.parametrize(
    ("parent", "variant"),
    [
        (floats(1, 2, 5), floats(1, 2.5, 4)),
        (floats(3, 3, 3), floats(3, 3, 3)),
        (pa.array([[1.0, 2.0], [4.0, 8.0]]), pa.array([[1.5, 2.0], [4.0, 7.0]])),
        (pa.array(["a", "b", "c"]), pa.array(["a", "b", "x"])),
        (pa.array([["a"], ["b"]]), pa.array([["a"], ["x"]])),
        (pa.array([["a"], ["b"]]), pa.array([["a"], ["b", "c"]])),
    ],
)
def test_the_mean_agreement_of_rows_is_the_disagreement_of_a_swap(parent, variant):
    agreement = agreement_by_row(read_scores(parent), read_scores(variant))
    assert len(agreement) == len(parent)
    assert 1 - agreement.mean() == pytest.approx(disagreement_of(parent, variant))


def test_all_values_of_a_row_disagree_if_its_lists_differ_in_length():
    parent, variant = pa.array([[1.0, 2.0], [3.0], [4.0]]), pa.array([[1.0], [3.0, 4.0], [4.0]])
    agreement = agreement_by_row(read_scores(parent), read_scores(variant))
    assert agreement.tolist() == [0.0, 0.0, 1.0]
