from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.models.compare import disagreement_of, find_differences
from scoreline.models.signature import Signature, TensorSpec

A = TensorSpec("a", "float32", (None,))
V = TensorSpec("v", "int64", (None, 3))
Y = TensorSpec("y", "float32", (None, 1))
PLANNED = Signature("serving_default", (A, V), (Y,))


def differences(new, *, all_outputs=True):
    return find_differences(PLANNED, new, [("y", "")], all_outputs=all_outputs)


@pytest.mark.parametrize(
    "new",
    [
        PLANNED,
        PLANNED._replace(inputs=(A._replace(shape=(None, 1)), V)),
        PLANNED._replace(inputs=(A._replace(shape=None), V._replace(shape=(None, None)))),
        PLANNED._replace(inputs=(A._replace(optional=True), V)),
        PLANNED._replace(outputs=(Y._replace(shape=(None,)),)),
    ],
)
def test_a_model_with_equal_inputs_and_outputs_fits(new):
    assert differences(new) == []


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (PLANNED._replace(inputs=(A,)), "input 'v' is missing"),
        (PLANNED._replace(inputs=(A, V, A._replace(name="n"))), "input 'n' is new"),
        (
            PLANNED._replace(inputs=(A._replace(dtype="float64"), V)),
            "input 'a' is float64 [None], was float32 [None]",
        ),
        (
            PLANNED._replace(inputs=(A, V._replace(shape=(None, 4)))),
            "input 'v' is int64 [None, 4], was int64 [None, 3]",
        ),
        (
            PLANNED._replace(inputs=(A, V._replace(shape=(None, 3, 1)))),
            "input 'v' is int64 [None, 3, 1], was int64 [None, 3]",
        ),
        (
            PLANNED._replace(inputs=(A._replace(shape=(None, 2)), V)),
            "input 'a' is float32 [None, 2], was float32 [None]",
        ),
        (PLANNED._replace(outputs=(Y._replace(dtype="float64"),)), "'y' gives double, gave float"),
        (
            PLANNED._replace(outputs=(Y._replace(shape=(None, 2)),)),
            "output 'y' gives fixed_size_list<",
        ),
        (PLANNED._replace(outputs=(Y, Y._replace(name="z"))), "output 'z' is new"),
        (
            PLANNED._replace(example_input="examples"),
            "serialized tf.Examples is 'examples', was ''",
        ),
    ],
)
def test_another_signature_is_reported_by_its_difference(new, told):
    (found,) = differences(new)
    assert told in found


def test_outputs_that_are_not_stored_do_not_count():
    new = PLANNED._replace(outputs=(Y, Y._replace(name="z")))
    assert differences(new, all_outputs=False) == []
    assert differences(PLANNED._replace(outputs=()), all_outputs=False) == ["output 'y' is missing"]


def test_an_input_that_rows_may_lack_must_stay_so():
    planned = PLANNED._replace(inputs=(A._replace(optional=True), V))
    (found,) = find_differences(planned, PLANNED, [("y", "")], all_outputs=True)
    assert found == "input 'a' is float32 [None], was float32 [None], optional"


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
