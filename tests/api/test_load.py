"""`scoreline.load(…).score(…)`: Arrow in, Arrow out, without Beam."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import scoreline
from scoreline.models.artifact import digest_model
from scoreline.models.runtimes.tensorflow import import_tensorflow
from tests.fakes import ROOT, expected_scores, make_rows
from tests.inputs import by_id
from tests.model_zoo import save_function

ROWS = 500


def floats(rows=ROWS):
    rng = np.random.default_rng(5)
    a, b = (rng.standard_normal(rows).astype(np.float32) for _ in "ab")
    return pa.table({"key": np.arange(rows), "a": a, "b": b})


def call_saved_model(path, a, b):
    tf = import_tensorflow()
    model = tf.saved_model.load(path)
    serve = model.signatures["serving_default"]
    inputs = serve.structured_input_signature[1]
    shape = [-1, 1] if inputs["a"].shape.rank == 2 else [-1]
    outputs = serve(**{n: tf.constant(v.reshape(shape)) for n, v in {"a": a, "b": b}.items()})
    return outputs["y"].numpy().reshape(-1)


def call_estimator(path, a, b):
    tf = import_tensorflow()
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
                    for name, value in zip("ab", pair, strict=True)
                }
            )
        ).SerializeToString()
        for pair in pairs
    ]
    serve = tf.saved_model.load(path).signatures["serving_default"]
    return serve(inputs=tf.constant(examples))["outputs"].numpy().reshape(-1)


def call_keras(path, a, b):
    import keras

    model = keras.saving.load_model(path)
    outputs = model({"a": a.reshape(-1, 1), "b": b.reshape(-1, 1)})
    return outputs["y"].numpy().reshape(-1)


def call_litert(path, a, b):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    runner = interpreter.get_signature_runner("serving_default")
    return np.array(
        [
            runner(a=np.array([[x]]), b=np.array([[y]]))["y"].item()
            for x, y in zip(a, b, strict=True)
        ],
        np.float32,
    )


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("module", call_saved_model),
        ("keras_3_export", call_saved_model),
        ("keras_2", call_saved_model),
        ("tf1", call_saved_model),
        ("estimator", call_estimator),
        ("model.keras", call_keras),
        ("model.tflite", call_litert),
    ],
)
def test_scores_are_those_of_one_direct_call_of_the_model_by_key(zoo, kind, call):
    rows = floats()
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(ROWS)))
    model = scoreline.load(zoo(kind))
    table, dead = model.score(shuffled, keys=["key"])
    assert not dead.num_rows
    output = "outputs" if kind == "estimator" else "y"
    direct = call(zoo(kind), rows["a"].to_numpy(), rows["b"].to_numpy())
    assert table["key"].to_pylist() == shuffled["key"].to_pylist()
    by_key = dict(zip(table["key"].to_pylist(), table[output].to_pylist(), strict=True))
    np.testing.assert_allclose([by_key[k] for k in range(ROWS)], direct, rtol=1e-6)
    assert set(table["model_digest"].to_pylist()) == {digest_model(zoo(kind))}


def test_chunks_dictionaries_and_structs_feed_the_model_as_plain_columns_do(model):
    plain = make_rows(0, 300)
    nested = pa.StructArray.from_arrays(
        [plain["x"].combine_chunks(), plain["s"].combine_chunks().dictionary_encode()], ["x", "s"]
    )
    table = pa.table({"id": plain["id"], "n": plain["n"].cast(pa.int32()), "row": nested})
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1, 200), table.slice(201)])
    loaded = scoreline.load(model, columns={"x": "row.x", "s": "row.s"}, outputs={"score": "late"})
    scored = loaded.score(chunked, keys=["id"], keep=["row.s"]).table
    assert scored.schema.names == ["id", "row.s", "late", "model_digest"]
    assert scored["row.s"].to_pylist() == plain["s"].to_pylist()
    np.testing.assert_allclose(
        scored["late"].to_numpy(), list(expected_scores(plain).values()), rtol=1e-6
    )


def test_rows_that_fail_are_dead_letters_with_their_columns_and_their_place(model):
    plain = make_rows(0, 200)
    x = pa.array([None if i in (7, 150) else v for i, v in enumerate(plain["x"].to_pylist())])
    rows = plain.set_column(1, "x", x.cast(pa.float32()))
    table, dead = scoreline.load(model).score(rows, keys=["id"])
    assert table.num_rows == 198
    assert dead.schema.names == [*rows.schema.names, "_step", "_reason", "_row", "_model_digest"]
    assert dead["_row"].to_pylist() == dead["id"].to_pylist() == [7, 150]
    assert dead["_step"].to_pylist() == ["BuildFeatures"] * 2
    assert "fills={'x': 'VALUE'}" in dead["_reason"][0].as_py()
    filled = scoreline.load(model, fills={"x": 0.5}).score(rows, keys=["id"])
    assert not filled.dead_letters.num_rows
    assert by_id(filled.table)[7] == pytest.approx(
        expected_scores(rows.slice(7, 1).set_column(1, "x", pa.array([0.5])))[7]
    )


def test_rows_with_a_column_that_dead_letters_add_are_refused(model):
    rows = make_rows(0, 3)
    named = rows.append_column("_reason", pa.array(["a", "b", "c"]))
    loaded = scoreline.load(model)
    with pytest.raises(ValueError, match=r"got _reason\. .* rows\.drop_columns\(\['_reason'\]\)"):
        loaded.score(named, keys=["id"])
    assert loaded.score(named.drop_columns(["_reason"]), keys=["id"]).table.num_rows == 3


def test_a_table_without_rows_gives_a_table_without_rows_of_the_same_columns(model):
    loaded = scoreline.load(model)
    some = loaded.score(make_rows(0, 3), keys=["id"]).table
    none = loaded.score(make_rows(0, 0), keys=["id"])
    assert none.table.schema.equals(some.schema)
    assert not none.dead_letters.num_rows


def test_everything_that_is_wrong_with_the_columns_is_said_at_once_in_terms_of_the_library(model):
    rows = make_rows(0, 3).drop_columns(["n"])
    rows = rows.set_column(1, "x", rows["x"].cast(pa.float64()))
    with pytest.raises(ValueError, match="3 things are wrong") as wrong:
        scoreline.load(model).score(rows, keys=["key"])
    told = str(wrong.value)
    assert "columns={'x': 'float32(x)'}" in told
    assert "columns={'n': 'COLUMN'}" in told
    assert "no column 'key'; it has id, x, s, unread" in told
    assert "--" not in told


def test_load_refuses_arguments_that_name_nothing_before_any_row(model):
    with pytest.raises(ValueError, match="fills z: signature 'serving_default' has no input 'z'"):
        scoreline.load(model, fills={"z": 0})
    with pytest.raises(ValueError, match=r"fills=\{'n': 'many'\}: expected a int64"):
        scoreline.load(model, fills={"n": "many"})
    with pytest.raises(TypeError, match="expected names in a list, got the text 'score'"):
        scoreline.load(model, outputs="score")
    with pytest.raises(ValueError, match="model_digest: expected sha256:0, got sha256:"):
        scoreline.load(model, model_digest="sha256:0")
    with pytest.raises(ValueError, match="'score' of the result comes from more than one"):
        scoreline.load(model, outputs={"pair": "score"}).score(
            make_rows(0, 1).append_column("score", pa.array([1])), keep=["score"]
        )


def test_score_of_a_record_batch_from_several_threads_is_that_of_one(model):
    from concurrent.futures import ThreadPoolExecutor

    loaded = scoreline.load(model, batch_rows=64)
    batches = [make_rows(i * 100, 100).to_batches()[0] for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda batch: loaded.score(batch, keys=["id"]).table, batches))
    table = pa.concat_tables(results)
    wanted = expected_scores(pa.Table.from_batches(batches))
    np.testing.assert_allclose(table["score"].to_numpy(), list(wanted.values()), rtol=1e-6)


def run_python(code, *args):
    done = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


NO_BEAM = """
import sys

class NoBeam:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "apache_beam":
            raise ImportError(name)

sys.meta_path.insert(0, NoBeam())
"""


def test_scoring_and_reading_a_table_need_no_beam(model, tmp_path):
    code = f"""{NO_BEAM}
import pyarrow as pa, scoreline
from deltalake import write_deltalake
rows = pa.table({{"id": [1], "x": pa.array([1.0], pa.float32()), "n": [2], "s": ["a"]}})
table = scoreline.load(sys.argv[1]).score(rows, keys=["id"]).table
write_deltalake(sys.argv[2], table.select(["id", "score"]))
print(scoreline.open_scores(sys.argv[2]).to_table().to_pylist())
"""
    assert run_python(code, model, str(tmp_path / "table")) == "[{'id': 1, 'score': 9.0}]"


def test_import_of_the_package_imports_no_framework():
    code = """
import sys, scoreline
heavy = {"apache_beam", "tensorflow", "pyarrow", "deltalake", "numpy", "grpc"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
print(set(scoreline.__all__) <= set(dir(scoreline)))
"""
    assert run_python(code).splitlines() == ["[]", "True"]


def test_an_impure_model_is_refused_at_the_first_score_unless_there_is_a_reason(tmp_path):
    tf = import_tensorflow()
    spec = tf.TensorSpec([None], tf.float32, name="a")
    path = save_function(tmp_path / "m", lambda a: {"y": a - tf.reduce_mean(a)}, spec)
    rows = floats()
    with pytest.raises(ValueError, match="row key=") as refused:
        scoreline.load(path).score(rows, keys=["key"])
    assert str(refused.value).endswith("; or go on with allow_impure REASON")
    allowed = scoreline.load(path, allow_impure="a demo").score(rows, keys=["key"])
    assert allowed.table.num_rows == ROWS


def test_lists_are_padded_to_an_asked_length(tmp_path):
    tf = import_tensorflow()
    spec = tf.TensorSpec([None, None], tf.int64, name="ids")
    path = save_function(
        tmp_path / "m",
        lambda ids: {"size": tf.cast(tf.shape(ids)[1], tf.int64) + 0 * ids[:, 0]},
        spec,
    )
    rows = pa.table({"ids": [[1], [1, 2, 3], [1] * 9]})
    model = scoreline.load(path, pads={"ids": 0}, pad_lengths={"ids": 5})
    scores, dead = model.score(rows)
    assert scores["size"].to_pylist() == [5, 5]
    assert "has more than 5 values" in dead["_reason"][0].as_py()
    with pytest.raises(ValueError, match=r"pads=\{'ids': 'VALUE'\}"):
        scoreline.load(path, pad_lengths={"ids": 5}).score(rows)
