from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.models.compare.disagreement import disagreement_of


def floats(*values):
    return pa.array(values, pa.float32())


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (floats(), floats(), 0.0),
        (floats(1, 2, 3), floats(1, 2, 3), 0.0),
        (floats(0, 2), floats(1, 3), 1.0),
        (floats(0, 2, 0, 2), floats(0, 2, 0, 3), 0.25),
        # All rows have one value, so there is no scale for a difference.
        (floats(0, 0), floats(0, 1), math.inf),
        (floats(1, math.nan, math.inf), floats(1, math.nan, math.inf), 0.0),
        (floats(0, 2, 0, 2), floats(0, 2, 0, math.nan), 0.25),
        (floats(math.nan, math.nan), floats(1, math.nan), 0.5),
        (pa.array([1e300, -1e300]), pa.array([-1e300, 1e300]), math.inf),
        (pa.array(["a", "b", "c", None]), pa.array(["a", "x", "c", "d"]), 0.5),
        (pa.array([1, 2]), pa.array([1, 2_000]), 0.5),
        (pa.array([True, False]), pa.array([True, False]), 0.0),
        (pa.array([["a"], ["b", "c"]]), pa.array([["a"], ["b"]]), 0.5),
        (pa.array([["a"], ["b"]]), pa.array([["a", "b"], []]), 1.0),
        (
            pa.array([[0.0, 2.0], [0.0, 2.0]], pa.list_(pa.float64(), 2)),
            pa.array([[1.0, 3.0], [0.0, 2.0]], pa.list_(pa.float64(), 2)),
            0.5,
        ),
    ],
)
def test_disagreement(old, new, wanted):
    assert disagreement_of(old, new) == pytest.approx(wanted, rel=1e-6)
    padding = old.slice(0, 1)
    moved = [pa.concat_arrays([padding, column]).slice(len(padding)) for column in (old, new)]
    assert disagreement_of(*moved) == pytest.approx(wanted, rel=1e-6)


@given(
    scale=st.floats(1e-3, 1e6),
    shift=st.floats(-10, 10),
)
def test_the_unit_of_a_score_does_not_matter(scale, shift):
    rng = np.random.default_rng(1)
    old, noise = rng.normal(size=500), rng.normal(size=500)
    wanted = disagreement_of(pa.array(old), pa.array(old + 0.1 * noise))
    assert wanted == pytest.approx(np.mean(np.abs(0.1 * noise)) / np.std(old))
    found = disagreement_of(
        pa.array(scale * (old + shift)), pa.array(scale * (old + shift + 0.1 * noise))
    )
    assert found == pytest.approx(wanted, rel=1e-6)


def test_unrelated_scores_differ_by_more_than_their_deviation():
    rng = np.random.default_rng(1)
    found = disagreement_of(*(pa.array(rng.normal(size=5000)) for _ in range(2)))
    assert found == pytest.approx(2 / math.sqrt(math.pi), abs=0.05)
