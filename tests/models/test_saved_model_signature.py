"""Signatures read from a SavedModel's file, against those of the model that TensorFlow loads."""

from __future__ import annotations

import os

import pytest

from scoreline.models.errors import ModelError
from scoreline.models.runtimes.example_features import find_features
from scoreline.models.runtimes.graph_ops import bodies_of
from scoreline.models.runtimes.saved_model import read_specs
from scoreline.models.runtimes.saved_model_proto import message_class
from scoreline.models.runtimes.saved_model_signature import (
    find_graph,
    find_signature,
    output_tensors,
    read_signature,
    signature_names,
)
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.signature import Signature, TensorSpec
from tests.model_zoo import op_library

MODELS = ["module", "keras_3_export", "keras_2", "tf1", "estimator", "examples", "custom_op"]
ODD_MODELS = {
    "odd_tf2": ["case", "counter", "divides", "dtypes", "flex", "numpy", "python", "two"],
    "odd_tf1": ["names", "no_serve", "two_graphs"],
}
PATHS = [(kind, "") for kind in MODELS] + [
    (k, name) for k, names in ODD_MODELS.items() for name in names
]


def _loaded(path, tags):
    """Return TensorFlow's signatures of a model, by name, and the ops of each."""
    tf = import_tensorflow()
    if path.endswith("custom_op"):
        tf.load_op_library(op_library())
    try:
        functions = tf.saved_model.load(path, tags).signatures
    except AttributeError:  # the slots of an optimizer of Keras 2: see saved_model.py
        from scoreline.models.runtimes.saved_model import load_saved_model

        functions = {
            name: load_saved_model(path, name)._function
            for name in signature_names(find_graph(path, tags or ()))
        }
    found = {}
    for name, function in functions.items():
        graph = function.graph.as_graph_def()
        inputs = read_specs(function.structured_input_signature[1])
        outputs = read_specs(function.structured_outputs)
        features = find_features(bodies_of(graph), inputs)
        if features:
            signature = Signature(name, features, outputs, inputs[0].name)
        else:
            signature = Signature(name, inputs, outputs)
        found[name] = signature, {node.op for body in bodies_of(graph) for node in body}
    return found


@pytest.mark.parametrize(("kind", "name"), PATHS, ids=lambda text: text)
def test_the_file_tells_the_signatures_of_the_loaded_model(zoo, kind, name):
    path = os.path.join(zoo(kind), name) if name else zoo(kind)
    tags = {"no_serve": ["train"], "two_graphs": ["serve"]}.get(name)
    graph = find_graph(path, tags or ())
    loaded = _loaded(path, tags)
    assert signature_names(graph) == sorted(n for n in loaded if not n.startswith("__"))
    for signature in signature_names(graph):
        wanted, ops = loaded[signature]
        outputs = output_tensors(graph.signature_def[signature])
        bodies = bodies_of(graph.graph_def, outputs)
        assert read_signature(graph, signature, bodies) == wanted
        if name in ("numpy", "python") and signature == "serving_default":
            continue
        found = find_signature(path, signature, tags or ())
        # Plumbing differs: a loaded model passes its variables as arguments.
        plumbing = {"Const", "Identity", "NoOp", "PartitionedCall", "Placeholder"}
        plumbing |= {"StatefulPartitionedCall", "VarHandleOp"}
        assert {
            op for op in found.ops if op in ops or op not in plumbing
        } - plumbing == ops - plumbing


def test_tensors_of_the_graph_are_named(zoo):
    found = find_signature(zoo("module"), "serving_default")
    assert found.inputs == {"a": "serving_default_a:0", "b": "serving_default_b:0"}
    assert found.outputs == {"y": "StatefulPartitionedCall:0"}
    assert found.tags == ("serve",)
    examples = find_signature(zoo("examples"), "serving_default")
    assert list(examples.inputs) == ["examples"]
    assert [spec.name for spec in examples.signature.inputs] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("odd_tf1/alike", "has the inputs 'x.y' and 'x/y'"),
        ("odd_tf1/empty", "an input or output without a name"),
        ("odd_tf1/self", "has an input 'self'"),
        ("odd_tf1/no_serve", "no MetaGraph with the tags serve; it has train; eval"),
        ("odd_tf2/python", "calls Python code of the process that exported it"),
        ("odd_tf2/numpy", "calls Python code of the process that exported it"),
    ],
)
def test_signatures_that_tensorflow_cannot_call_are_refused(zoo, name, told):
    kind, _, below = name.partition("/")
    with pytest.raises(ModelError, match=told):
        find_signature(os.path.join(zoo(kind), below), "serving_default")


def test_another_signature_is_refused_with_those_there_are(zoo):
    with pytest.raises(ModelError, match="has no signature 'x'; it has serving_default"):
        find_signature(zoo("module"), "x")


def _parser(*keys):
    """Return a body of one function that parses a dense feature, and the nodes of its keys."""
    graph = message_class("GraphDef")()
    parse = graph.node.add(name="parse", op="ParseExampleV2")
    parse.input.extend(["examples", "none", "none", "keys", "none", "none"])
    parse.attr["Tdense"].list.type.append(1)
    parse.attr["dense_shapes"].list.shape.add()
    none = graph.node.add(name="none", op="Const").attr["value"].tensor
    none.dtype = 7
    none.tensor_shape.dim.add(size=0)
    graph.node.extend(keys)
    return [graph.node]


def _keys(sizes, *values, op="Const", given=()):
    node = message_class("NodeDef")(name="keys", op=op, input=given)
    node.attr["value"].tensor.dtype = 7
    for size in sizes:
        node.attr["value"].tensor.tensor_shape.dim.add(size=size)
    node.attr["value"].tensor.string_val.extend(values)
    return node


EXAMPLES = [TensorSpec("examples", "string", (None,))]


def test_a_feature_is_found_by_its_constant_key():
    found = find_features(_parser(_keys([1], b"a")), EXAMPLES)
    assert found == (TensorSpec("a", "float32", (None,)),)


@pytest.mark.parametrize(
    "keys",
    [
        _keys([1], op="Placeholder"),
        _keys([], op="Identity", given=["keys"]),
        _keys([2**62, 2**62], b"a"),
        _keys([1], b"a", b"b"),
        _keys([1], b"\xff"),
    ],
    ids=["computed", "circle", "too many", "more than told", "no text"],
)
def test_keys_that_are_no_names_leave_the_string_input(keys):
    assert find_features(_parser(keys), EXAMPLES) == ()


def test_two_parsers_leave_the_string_input():
    body = _parser(_keys([1], b"a"))
    assert find_features([*body, *body], EXAMPLES) == ()
