from __future__ import annotations

import pytest

from scoreline.models.compare.signatures import find_differences
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
