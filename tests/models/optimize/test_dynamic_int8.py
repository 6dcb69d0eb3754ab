"""Weights in int8: how far scores are from the parent's, what stays in float32, and refusals."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import scoreline
from scoreline.models.errors import ModelError
from scoreline.models.optimize.dynamic_int8 import quantize_dynamic
from scoreline.models.optimize.frozen import freeze
from scoreline.models.optimize.litert import to_litert
from scoreline.models.optimize.variant import write_variant
from scoreline.models.runtimes.litert_file import read_litert_file
from scoreline.models.runtimes.tensorflow import import_tensorflow
from tests.model_zoo import save_function
from tests.models.optimize.models import make_rows, to_numpy

CALL_ROWS = 32


def _weights(*shape):
    return np.random.default_rng(sum(shape)).normal(0, 0.2, shape).astype(np.float32)


def save_wide(path):
    """Text hashed in front, an embedding, and two dense layers behind it."""
    tf = import_tensorflow()

    def serve(word, x):
        hashed = tf.strings.to_hash_bucket_fast(word, 50)
        joined = tf.concat([tf.gather(_weights(50, 32), hashed), x], 1)
        hidden = tf.nn.relu(tf.matmul(joined, _weights(64, 96), name="first"))
        return {"score": tf.sigmoid(tf.matmul(hidden, _weights(96, 1), name="second"))}

    specs = [tf.TensorSpec([None], tf.string, name="word")]
    specs.append(tf.TensorSpec([None, 32], tf.float32, name="x"))
    return save_function(path, serve, *specs)


def save_images(path):
    tf = import_tensorflow()

    def serve(image):
        found = tf.nn.relu(tf.nn.conv2d(image, _weights(3, 3, 4, 32), 1, "SAME"))
        found = tf.nn.depthwise_conv2d(found, _weights(3, 3, 32, 1), [1, 2, 2, 1], "SAME")
        return {"score": tf.matmul(tf.reduce_mean(found, [1, 2]), _weights(32, 8))}

    return save_function(path, serve, tf.TensorSpec([None, 8, 8, 4], tf.float32, name="image"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    path = save_wide(tmp_path_factory.mktemp("wide") / "parent")
    return path, to_litert(freeze(path), CALL_ROWS)


def scores_of(path, rows):
    model = scoreline.load(path)
    return to_numpy(model.score(rows, keys=["id"]).table["score"])


def is_close(got, wanted, share):
    return np.abs(got - wanted).max() <= share * wanted.std()


def test_scores_of_int8_are_near_those_of_the_parent_and_the_file_is_smaller(wide, tmp_path):
    parent, variant = wide
    quantized = quantize_dynamic(variant)
    assert len(quantized.content) < 0.5 * len(variant.content)
    assert [record.name for record in quantized.passes] == ["litert_float32", "dynamic_int8"]
    write_variant(quantized, str(tmp_path / "int8"))
    rows = make_rows(scoreline.load(parent).signature, 200)
    wanted, got = scores_of(parent, rows), scores_of(tmp_path / "int8", rows)
    assert is_close(got, wanted, 0.2)
    assert np.abs(got - wanted).max() > 1e-5  # float32 would be nearer


def test_convolutions_are_quantized(tmp_path):
    parent = save_images(tmp_path / "parent")
    variant = to_litert(freeze(parent), CALL_ROWS)
    quantized = quantize_dynamic(variant)
    assert len(quantized.content) < 0.6 * len(variant.content)
    write_variant(quantized, str(tmp_path / "int8"))
    rows = make_rows(scoreline.load(parent).signature)
    assert is_close(scores_of(tmp_path / "int8", rows), scores_of(parent, rows), 0.2)


def test_an_op_that_is_named_stays_in_float32(wide):
    variant = wide[1]
    whole = quantize_dynamic(variant)
    tensors = product_tensors(variant.content)
    assert len(tensors) == 2
    kept = quantize_dynamic(variant, keep_float=[max(tensors, key=tensors.get)])
    saved = len(kept.content) - len(whole.content)
    assert saved == pytest.approx(3 * 64 * 96, rel=0.2)  # three bytes of each weight of the first
    assert kept.passes[-1].settings["keep_float"]


def product_tensors(content):
    """Return the results of matrix products, each with the size of its weights."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    code = schema.BuiltinOperator.FULLY_CONNECTED
    model = schema.Model.GetRootAs(content, 0)
    found = {}
    for at in range(graph.OperatorsLength()):
        op = graph.Operators(at)
        if model.OperatorCodes(op.OpcodeIndex()).BuiltinCode() == code:
            name = graph.Tensors(op.Outputs(0)).Name().decode()
            found[name] = np.prod(graph.Tensors(op.Inputs(1)).ShapeAsNumpy())
    return found


def test_a_variant_is_not_quantized_twice(wide):
    quantized = quantize_dynamic(wide[1])
    with pytest.raises(ModelError, match="expected a variant in float32, got passes litert_float"):
        quantize_dynamic(quantized)


def test_a_variant_without_products_is_refused(tmp_path):
    tf = import_tensorflow()
    x = tf.TensorSpec([None, 4], tf.float32, name="x")
    path = save_function(tmp_path / "mean", lambda x: {"y": tf.reduce_mean(x, 1)}, x)
    variant = to_litert(freeze(path), CALL_ROWS)
    assert "MEAN" in read_litert_file(variant.content).ops
    with pytest.raises(ModelError, match=r"expected one of the ops FULLY_CONNECTED, .* got MEAN"):
        quantize_dynamic(variant)


def test_a_variant_whose_every_op_is_kept_is_refused(tmp_path):
    tf = import_tensorflow()
    x = tf.TensorSpec([None, 64], tf.float32, name="x")
    path = save_function(tmp_path / "one", lambda x: {"y": tf.matmul(x, _weights(64, 32))}, x)
    variant = to_litert(freeze(path), CALL_ROWS)
    with pytest.raises(ModelError, match="all weights are kept in float32"):
        quantize_dynamic(variant, keep_float=[*product_tensors(variant.content)])


def test_a_quantizer_that_is_not_installed_is_refused_with_its_extra(wide, monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_quantizer", None)
    with pytest.raises(ModelError, match=r"pip install 'scoreline\[optimize\]'"):
        quantize_dynamic(wide[1])
