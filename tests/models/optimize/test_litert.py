"""Variants in LiteRT: scores like the parent's, what stays in front, refusals, and damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import scoreline
from scoreline.models.artifact import digest_model, model_format_of
from scoreline.models.errors import ModelError
from scoreline.models.inspection import inspect_model
from scoreline.models.optimize.frozen import freeze
from scoreline.models.optimize.litert import to_litert
from scoreline.models.optimize.variant import write_variant
from scoreline.models.runtimes.lookup import Lookup, read_lookup, write_lookup
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.runtimes.variant_file import read_manifest
from scoreline.models.strings import ArrowStrings, StringCodes, Strings
from tests.fakes import assert_scored_whole, read_scores
from tests.model_zoo import save_function
from tests.models.optimize.models import SAVERS, make_rows, save_linear, to_numpy
from tests.processes import run_script


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function from a kind to a parent and its variant of calls of 32 rows."""
    folder = tmp_path_factory.mktemp("variants")

    def make(kind):
        parent, variant = str(folder / kind), str(folder / f"{kind}_variant")
        if not Path(parent).exists():
            SAVERS[kind](parent)
            write_variant(to_litert(freeze(parent), 32), variant)
        return parent, variant

    return make


def assert_same_scores(parent, variant, rows, **options):
    models = [scoreline.load(path, **options) for path in (parent, variant)]
    wanted, got = (model.score(rows, keys=["id"]) for model in models)
    assert got.dead_letters.num_rows == wanted.dead_letters.num_rows == 0
    names = options.get("outputs", [spec.name for spec in models[0].signature.outputs])
    assert (
        got.table.drop_columns("model_digest").schema
        == wanted.table.drop_columns("model_digest").schema
    )
    for name in names:
        a, b = (to_numpy(scores.table[name]) for scores in (wanted, got))
        assert a.std() > 0  # scores of one value prove nothing
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", SAVERS)
def test_a_variant_gives_the_scores_of_its_parent_row_by_row(made, kind):
    parent, variant = made(kind)
    rows = make_rows(scoreline.load(parent).signature)
    assert rows.num_rows % 32  # the last call is filled up
    assert_same_scores(parent, variant, rows)


def test_text_that_repeats_is_looked_up_like_text_that_does_not(made):
    parent, variant = made("text")
    rows = make_rows(scoreline.load(parent).signature, 400)
    words = [f"{word} {at}" if at % 2 else word for at, word in enumerate(rows["word"].to_pylist())]
    at = rows.schema.get_field_index("word")
    plain = rows.set_column(at, "word", pa.array(words))
    assert len(set(words)) > 150
    assert_same_scores(parent, variant, plain)
    assert_same_scores(
        parent, variant, rows.set_column(at, "word", rows["word"].dictionary_encode())
    )


@pytest.mark.parametrize(
    ("kind", "front", "lookups", "runtime"),
    [
        ("dense", (), (), "litert"),
        ("text", (), ("word", "words", "number"), "litert"),
        ("hashed", ("word",), (), "litert+c"),
        ("ragged", ("text",), (), "litert+c"),
    ],
)
def test_only_what_litert_cannot_run_is_in_front(made, kind, front, lookups, runtime):
    variant = made(kind)[1]
    manifest = read_manifest(variant)
    assert manifest.front_inputs == front
    assert {lookup.input for lookup in manifest.lookups} == {*lookups}
    assert scoreline.load(variant)._model.runtime.name == runtime


def test_a_model_of_examples_keeps_its_parser_in_front(zoo, tmp_path):
    parent = zoo("examples")
    write_variant(to_litert(freeze(parent), 32, ["y"]), str(tmp_path / "variant"))
    random = np.random.default_rng(3)
    rows = pa.table(
        {
            "id": pa.array(range(50)),
            "a": pa.array(random.normal(size=50), pa.float32()),
            "b": pa.array([None, 0.5] * 25, pa.float32()),
            "c": pa.array([["x"] * (at % 3) for at in range(50)]),
            "d": pa.array([[at] for at in range(50)]),
        }
    )
    assert_same_scores(parent, str(tmp_path / "variant"), rows, outputs=["y"])


def test_a_keras_file_becomes_a_variant(zoo, tmp_path):
    parent = zoo("model.keras")
    write_variant(to_litert(freeze(parent), 32), str(tmp_path / "variant"))
    rows = make_rows(scoreline.load(parent).signature)
    assert_same_scores(parent, str(tmp_path / "variant"), rows)


def test_a_variant_is_a_model_like_any_other(made):
    parent, variant = made("hashed")
    assert model_format_of(variant) == "Variant"
    report = inspect_model(variant)
    assert digest_model(parent) in report.writer
    assert "litert_float32 1" in report.writer
    assert report.signatures[0].batch_rows == 32
    assert report.digest == digest_model(variant)
    with pytest.raises(ModelError, match="has only 'serving_default', not 'other'"):
        scoreline.load(variant, signature="other")
    with pytest.raises(ModelError, match="tags: expected a SavedModel"):
        scoreline.load(variant, tags=["serve"])
    with pytest.raises(ModelError, match="runs no op of TensorFlow"):
        scoreline.load(made("text")[1], op_libraries=["ops.so"])


@pytest.mark.parametrize("flags", [(), ("--batch_timeout_s=60",)])
def test_a_batch_job_scores_with_a_variant(score, lake, tmp_path, flags):
    parent = save_linear(tmp_path / "parent")
    variant = str(tmp_path / "variant")
    write_variant(to_litert(freeze(parent), 128), variant)
    ended = score(*flags, model=variant)
    assert ended.code == 0, ended.err
    assert_scored_whole(lake, tmp_path / "scores")
    assert set(read_scores(tmp_path / "scores")["model_digest"].to_pylist()) == {
        digest_model(variant)
    }


def test_no_python_of_tensorflow_is_imported_to_score(made, tmp_path):
    script = """
import sys
import pyarrow as pa
import scoreline
rows = pa.table({"id": [1], "word": ["red"], "x": pa.array([1.0], pa.float32())})
assert scoreline.load(sys.argv[1]).score(rows, keys=["id"]).table.num_rows == 1
assert "tensorflow" not in sys.modules
"""
    ended = run_script(tmp_path, script, made("hashed")[1])
    assert ended.code == 0, ended.err


def _damage(folder, name, content=None):
    file = folder / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("variant.json", b"{", "variant.json is damaged"),
        ("variant.json", b"", "variant.json is empty"),
        ("variant.json", b'{"format": 2}', "expected format 1, got 2"),
        ("variant.json", b'{"format": 1}', "variant.json is damaged"),
        ("model.tflite", b"TFL3", "for its file model.tflite, got sha256"),
        ("model.tflite", None, "for its file model.tflite, got no such file"),
        ("front/saved_model.pb", b"", "for its file front/saved_model.pb, got sha256"),
    ],
)
def test_a_damaged_variant_is_refused_before_any_of_it_runs(made, tmp_path, name, content, told):
    folder = tmp_path / "variant"
    shutil.copytree(made("hashed")[1], folder)
    _damage(folder, name, content)
    with pytest.raises(ModelError, match=told):
        scoreline.load(folder)
    with pytest.raises(ModelError, match=told):
        inspect_model(str(folder))


def test_a_damaged_lookup_is_refused_although_its_digest_is_right(made, tmp_path):
    folder = tmp_path / "variant"
    shutil.copytree(made("text")[1], folder)
    (folder / "lookup_0.arrow").write_bytes(b"ARROW1")
    held = json.loads((folder / "variant.json").read_text())
    from scoreline.models.artifact import digest_file

    held["files"]["lookup_0.arrow"] = digest_file(folder / "lookup_0.arrow")
    (folder / "variant.json").write_text(json.dumps(held))
    with pytest.raises(ModelError, match="does not load: ArrowInvalid"):
        scoreline.load(folder)


def test_a_variant_replaces_nothing(made):
    parent, variant = made("dense")
    with pytest.raises(FileExistsError, match="Expected no file or folder"):
        write_variant(to_litert(freeze(parent), 32), variant)
    assert not [path for path in Path(variant).parent.iterdir() if path.name.startswith(".")]


def save_of(tmp_path, function, *specs):
    return freeze(save_function(tmp_path / "refused", function, *specs))


def test_an_op_of_tensorflow_behind_a_matrix_product_is_refused_by_its_name(tmp_path):
    tf = import_tensorflow()

    def serve(x):
        return {"y": tf.math.igamma(tf.matmul(x, tf.ones([3, 1])), 1.0)}

    model = save_of(tmp_path, serve, tf.TensorSpec([None, 3], tf.float32, name="x"))
    with pytest.raises(ModelError, match=r"LiteRT has no op Igamma .*MatMul .*would have to stay"):
        to_litert(model)


def test_an_op_of_tensorflow_before_it_stays_in_front(tmp_path):
    tf = import_tensorflow()

    def serve(x):
        return {"y": tf.matmul(tf.math.igamma(x, 1.0), tf.ones([3, 1]))}

    model = save_of(tmp_path, serve, tf.TensorSpec([None, 3], tf.float32, name="x"))
    variant = to_litert(model)
    assert variant.front_inputs == ("x",)
    assert "in TensorFlow: Igamma" in variant.passes[-1].notes[-1]


def test_an_input_of_free_size_is_refused(tmp_path):
    tf = import_tensorflow()

    def serve(x):
        return {"y": tf.matmul(tf.reduce_sum(x, 1), tf.ones([3, 1]))}

    model = save_of(tmp_path, serve, tf.TensorSpec([None, None, 3], tf.float32, name="x"))
    write_variant(to_litert(model, 8), str(tmp_path / "variant"))  # the sum stays in front
    x = tf.TensorSpec([None, None, 3], tf.float32, name="x")
    shutil.rmtree(tmp_path / "refused")
    model = save_of(tmp_path, lambda x: {"y": tf.reduce_sum(tf.matmul(x, tf.ones([3, 1])), 1)}, x)
    with pytest.raises(ModelError, match=r"the size of .* is free: .*would have to stay"):
        to_litert(model)


def test_text_as_output_is_refused(tmp_path):
    tf = import_tensorflow()

    def serve(x):
        return {"y": tf.as_string(x), "z": 2.0 * x}

    model = save_of(tmp_path, serve, tf.TensorSpec([None], tf.float32, name="x"))
    with pytest.raises(ModelError, match=r"Output 'y' is string .*from AsString; expected numbers"):
        to_litert(model)
    assert to_litert(model, outputs=["z"]).outputs == {"z": "output_0"}
    with pytest.raises(ModelError, match="outputs: expected some of y, z, got 'q'"):
        to_litert(model, outputs=["q"])


def test_a_check_of_values_is_refused_since_rows_would_pass_it(tmp_path):
    tf = import_tensorflow()

    def serve(x):
        tf.debugging.assert_positive(x)
        return {"y": 2.0 * x}

    with pytest.raises(ModelError, match="it checks values with Assert"):
        save_of(tmp_path, serve, tf.TensorSpec([None], tf.float32, name="x"))


def test_a_state_is_refused(tmp_path):
    tf = import_tensorflow()
    module = tf.Module()
    module.count = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(x):
        return {"y": x + module.count.assign_add(1.0)}

    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "state"), signatures=serve)
    with pytest.raises(
        ModelError, match="it changes a variable or a table with AssignAddVariableOp"
    ):
        freeze(str(tmp_path / "state"))


def test_a_fixed_number_of_rows_is_refused(tmp_path):
    tf = import_tensorflow()
    x = tf.TensorSpec([4], tf.float32, name="x")
    with pytest.raises(ModelError, match="takes calls of 4 rows; expected one of any number"):
        to_litert(save_of(tmp_path, lambda x: {"y": 2.0 * x}, x))


def test_passes_begin_with_a_graph_of_tensorflow(made, tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    with pytest.raises(ModelError, match=r"Passes begin with a SavedModel .*\(LiteRT\)"):
        freeze(str(tmp_path / "model.tflite"))
    with pytest.raises(ModelError, match=r"Passes begin with a SavedModel .*\(Variant\)"):
        freeze(made("dense")[1])


def test_a_lookup_finds_keys_by_their_bytes(tmp_path):
    keys = pa.array([b"a", b"", b"\xff"], pa.large_binary())
    write_lookup(str(tmp_path / "l.arrow"), keys, np.array([1, 2, 3]))
    lookup = read_lookup(str(tmp_path / "l.arrow"), -1)
    strings = pa.array([b"", b"A", b"\xff", b"a"], pa.binary())
    assert lookup.find(ArrowStrings(strings, (2, 2))).tolist() == [[2, -1], [3, 1]]
    codes = StringCodes(Strings(strings), np.array([3, 3, 0]))
    assert lookup.find(codes).tolist() == [1, 1, 2]
    assert lookup.find(np.array([b"a", b"z"], object)).tolist() == [1, -1]


def test_a_lookup_without_keys_finds_nothing(tmp_path):
    write_lookup(str(tmp_path / "l.arrow"), pa.array([], pa.int64()), np.array([], np.int64))
    lookup = read_lookup(str(tmp_path / "l.arrow"), 7)
    assert isinstance(lookup, Lookup)
    assert lookup.find(np.array([1, 2])).tolist() == [7, 7]
