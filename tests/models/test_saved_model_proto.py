"""The messages of a SavedModel without TensorFlow, against TensorFlow's own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from scoreline.models.errors import ModelError
from scoreline.models.runtimes.example_features import size_of, strings_of
from scoreline.models.runtimes.saved_model_proto import (
    DTYPES,
    dtype_of,
    message_class,
    parse_saved_model,
    shape_of,
)
from scoreline.models.runtimes.tensorflow import import_tensorflow


@pytest.fixture(scope="module")
def theirs():
    import_tensorflow()
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    return SavedModel


def _messages(ours, theirs, seen):
    """Yield each message of ours beside TensorFlow's, from the top down."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    yield ours, theirs
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        if field.message_type is not None:
            yield from _messages(field.message_type, other.message_type, seen)


def test_every_field_is_that_of_tensorflow(theirs):
    compared = 0
    for ours, other in _messages(message_class("SavedModel").DESCRIPTOR, theirs.DESCRIPTOR, set()):
        assert ours.name == other.name
        for field in ours.fields:
            match = other.fields_by_name[field.name]
            assert field.number == match.number, (ours.name, field.name)
            assert field.is_repeated == match.is_repeated, (ours.name, field.name)
            assert field.type == match.type, (ours.name, field.name)
            oneofs = [f.containing_oneof and f.containing_oneof.name for f in (field, match)]
            assert oneofs[0] == oneofs[1], (ours.name, field.name)
            if field.enum_type is not None:
                numbers = {value.name: value.number for value in match.enum_type.values}
                assert {v.name: v.number for v in field.enum_type.values}.items() <= numbers.items()
            compared += 1
    assert compared > 60


def test_every_dtype_has_tensorflows_name():
    tf = import_tensorflow()
    from tensorflow.core.framework.types_pb2 import DataType

    numbers = [number for number in DataType.values() if number]
    assert {n: dtype_of(n) for n in numbers} == {n: tf.dtypes.as_dtype(n).name for n in numbers}
    assert set(DTYPES) == {number for number in numbers if number < 100}
    assert dtype_of(77) == "dtype 77"


@given(st.none() | st.lists(st.none() | st.integers(0, 2**40), max_size=4))
def test_shapes_are_those_of_tensorflow(sizes):
    tf = import_tensorflow()
    proto = tf.TensorShape(sizes).as_proto()
    assert shape_of(proto) == (None if sizes is None else tuple(sizes))


@given(st.lists(st.binary(max_size=30), max_size=5), st.integers(0, 3))
def test_strings_of_constants_are_those_of_tensorflow(values, more):
    tf = import_tensorflow()
    proto = tf.make_tensor_proto(np.array(values, object), tf.string, [len(values)])
    if values:  # TensorFlow writes equal values at the end once
        proto.tensor_shape.dim[0].size += more
    assert strings_of(proto) == tf.make_ndarray(proto).tolist()
    assert size_of(proto) == len(values) + (more if values else 0)


@pytest.mark.parametrize("kind", ["module", "estimator", "keras_2"])
def test_a_file_written_again_is_the_same_to_tensorflow(zoo, theirs, kind):
    ours = parse_saved_model(zoo(kind))
    with open(f"{zoo(kind)}/saved_model.pb", "rb") as f:
        assert theirs.FromString(ours.SerializeToString()) == theirs.FromString(f.read())


@pytest.mark.parametrize("kind", ["module", "examples", "tf1", "keras_2"])
def test_the_text_form_is_read_like_the_binary_form(zoo, theirs, tmp_path, kind):
    with open(f"{zoo(kind)}/saved_model.pb", "rb") as f:
        text = text_format.MessageToString(theirs.FromString(f.read()))
    (tmp_path / "saved_model.pbtxt").write_text(text)
    known = parse_saved_model(zoo(kind))
    known.DiscardUnknownFields()
    assert parse_saved_model(str(tmp_path)) == known


def test_damaged_files_are_model_errors(tmp_path):
    for name, content in {
        "saved_model.pbtxt": b"meta_graphs { graph_def {",
        "saved_model.pb": b"\xff" * 9,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=rf"does not load: {name} is damaged or is no SavedM"):
            parse_saved_model(str(tmp_path))


def test_tensorflow_can_be_imported_after_a_file_was_read(zoo):
    code = (
        "import sys\n"
        "from scoreline.models.runtimes.saved_model_signature import find_signature\n"
        f"found = find_signature({zoo('module')!r}, 'serving_default')\n"
        "print('tensorflow' in sys.modules, *found.inputs)\n"
        "import tensorflow as tf\n"
        f"loaded = tf.saved_model.load({zoo('module')!r})\n"
        "print(loaded.signatures['serving_default'](a=tf.ones(1), b=tf.ones(1))['y'].numpy())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False a b", "[3.]"]
