from __future__ import annotations

import pyarrow as pa
import pytest

from scoreline.models.null_servable import NullServable, zeros
from scoreline.models.servable import load_servable


def test_answers_have_the_types_of_the_model(model):
    servable = load_servable(model)
    null = NullServable(servable)
    features = {
        "x": pa.array([1.0, 2.0], pa.float32()),
        "n": pa.array([3, 4], pa.int64()),
        "s": pa.array(["a", "b"]),
    }
    real, empty = servable.predict(features, 2), null.predict(features, 2)
    assert empty.keys() == real.keys()
    assert {n: c.type for n, c in empty.items()} == {n: c.type for n, c in real.items()}
    assert empty["score"].to_pylist() == [0.0, 0.0]
    assert empty["pair"].to_pylist() == [[0.0, 0.0], [0.0, 0.0]]
    assert null.predict(features, 2, ["score"]).keys() == {"score"}
    assert (null.digest, null.signature) == (servable.digest, servable.signature)
    assert null.call_size is servable.call_size


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize(
    ("kind", "zero"),
    [
        (pa.bool_(), False),
        (pa.float16(), 0.0),
        (pa.uint8(), 0),
        (pa.string(), ""),
        (pa.binary(), b""),
        (pa.list_(pa.list_(pa.float32(), 2)), [[0.0, 0.0]]),
        (pa.list_(pa.string(), 2), ["", ""]),
    ],
    ids=str,
)
def test_zeros_of_each_type(kind, zero, rows):
    column = zeros(kind, rows)
    assert column.type == kind
    assert column.to_pylist() == [zero] * rows
