from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from scoreline.models.artifact import digest_model, model_format_of
from scoreline.models.errors import ModelError
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.servable import load_servable
from scoreline.models.signature import InputColumn, TensorSpec
from tests.model_zoo import op_library, save_function

RNG = np.random.default_rng(7)
A, B = RNG.uniform(-1, 1, (2, 70)).astype(np.float32)


def scores_of(servable, **columns):
    name = servable.signature.outputs[0].name
    return servable.predict({"a": pa.array(A), "b": pa.array(B), **columns}, 70)[name].to_numpy()


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        ("module", 0),
        ("keras_3_export", 1e-6),
        ("model.keras", 1e-6),
        ("keras_2", 1e-6),
        ("tf1", 0),
        ("model.tflite", 1e-6),
        ("int8.tflite", 0.03),  # one step of the output's scale, about 6 / 256
    ],
)
def test_models_of_every_format_and_age_give_the_same_scores(zoo, kind, tolerance):
    servable = load_servable(zoo(kind), batch_rows=32)
    assert [spec.name for spec in servable.signature.inputs] == ["a", "b"]
    assert servable.signature.batch_rows is None
    assert servable.signature.outputs[0].is_one_value
    np.testing.assert_allclose(scores_of(servable), 2 * A + B, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ["examples", "estimator"])
def test_signatures_of_examples_take_columns_or_serialized_records(zoo, kind):
    tf = import_tensorflow()
    servable = load_servable(zoo(kind), batch_rows=32)
    specs = {spec.name: spec for spec in servable.signature.inputs}
    assert specs["a"] == TensorSpec("a", "float32", (None,), optional=False)
    assert specs["b"] == TensorSpec("b", "float32", (None,), optional=True)
    b = pa.array([None if i % 3 == 0 else value for i, value in enumerate(B)], pa.float32())
    wanted = 2 * A + np.where(np.arange(70) % 3 == 0, 0, B)
    lists = {
        "c": pa.array([["x"] * (i % 4) for i in range(70)], pa.list_(pa.string())),
        "d": pa.array([None if i % 2 else [i] for i in range(70)], pa.list_(pa.int64())),
    }
    given = {name: column for name, column in lists.items() if name in specs}
    columns = {"a": pa.array(A), "b": b, **given}
    outputs = servable.predict(columns, 70)
    score = servable.signature.outputs[-1].name
    np.testing.assert_array_equal(outputs[score].to_numpy(), wanted.astype(np.float32))
    if "count" in outputs:
        wanted_count = [i % 4 + (0 if i % 2 else i) for i in range(70)]
        assert outputs["count"].to_pylist() == wanted_count

    def record(row):
        floats = {"a": A[row], "b": columns["b"][row].as_py()}
        return tf.train.Example(
            features=tf.train.Features(
                feature={
                    name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
                    for name, value in floats.items()
                    if value is not None
                }
            )
        ).SerializeToString()

    raw = pa.array([record(row) for row in range(70)], pa.binary())
    straight = servable.predict({servable.signature.example_input: raw}, 70, [score])
    assert straight[score] == outputs[score]


def test_litert_never_imports_tensorflow(zoo):
    code = (
        "import sys, pyarrow as pa\n"
        "from scoreline.models.servable import load_servable\n"
        f"s = load_servable({zoo('model.tflite')!r})\n"
        "one = pa.array([1.0], pa.float32())\n"
        "print(s.predict({'a': one, 'b': one}, 1)['y'].to_pylist())\n"
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[3.0]", "False False"]


def test_quantized_inputs_saturate_and_nan_is_refused(zoo):
    servable = load_servable(zoo("int8.tflite"))
    assert {spec.dtype for spec in servable.signature.inputs} == {"float32"}
    huge, one = pa.array([1e9], pa.float32()), pa.array([1.0], pa.float32())
    largest = servable.predict({"a": huge, "b": one}, 1)["y"][0].as_py()
    assert largest == pytest.approx(3.0, abs=0.03)  # a is at most 1
    with pytest.raises(ValueError, match="Input 'a': NaN has no int8"):
        servable.predict({"a": pa.array([np.nan], pa.float32()), "b": one}, 1)


def test_threads_call_a_litert_model_at_once(zoo):
    from concurrent.futures import ThreadPoolExecutor

    servable = load_servable(zoo("model.tflite"), batch_rows=7)
    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(lambda _: scores_of(servable), range(12)):
            np.testing.assert_allclose(scores, 2 * A + B, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 32])
def test_a_fixed_batch_is_filled_up_and_padding_never_comes_out(tmp_path, rows):
    tf = import_tensorflow()

    def serve(a, s):
        # The score of a row depends on its own values only.
        return {
            "y": a * 2.0 + tf.cast(tf.strings.length(s), tf.float32),
            "size": tf.shape(a) * 0 + rows,
        }

    def counted(a, s):
        given = serve(a, s)
        return {"y": given["y"], "size": tf.fill([rows], tf.size(a))}

    path = save_function(
        tmp_path,
        counted,
        tf.TensorSpec([rows], tf.float32, name="a"),
        tf.TensorSpec([rows], tf.string, name="s"),
    )
    servable = load_servable(path)
    assert servable.signature.batch_rows == rows
    texts = pa.array(["x" * (i % 5) for i in range(70)])
    outputs = servable.predict({"a": pa.array(A), "s": texts}, 70)
    wanted = 2 * A + np.arange(70, dtype=np.float32) % 5
    np.testing.assert_array_equal(outputs["y"].to_numpy(), wanted)
    assert outputs["size"].to_pylist() == [rows] * 70


@pytest.mark.parametrize(
    "dtype",
    [
        "float16",
        "float32",
        "float64",
        "bfloat16",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "bool",
    ],
)
@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 3), (5, 1), (None,), (None, 2)])
def test_values_of_every_dtype_and_shape_come_back_as_they_went_in(tmp_path, dtype, shape):
    tf = import_tensorflow()
    path = save_function(
        tmp_path,
        lambda x: {"y": tf.identity(x)},
        tf.TensorSpec([None, *shape], getattr(tf, dtype), name="x"),
    )
    sizes = [3 if size is None else size for size in shape]
    values = RNG.integers(0, 2, (9, *sizes))
    if dtype == "int64":
        values = values * (2**53 + 1)
    kind = "float16" if dtype == "bfloat16" else dtype
    column = pa.array(values.astype(kind).tolist() if shape else values.astype(kind))
    leaf = pa.type_for_alias(
        {"float16": "halffloat", "float32": "float", "float64": "double"}.get(kind, kind)
    )
    nested = leaf
    for size in reversed(shape):
        nested = pa.list_(nested) if size is None else pa.list_(nested, size)
    column = (
        column.cast(nested) if kind != "float16" else pa.array(values.astype(kind).tolist(), nested)
    )
    servable = load_servable(path, batch_rows=4)
    source = InputColumn(servable.signature.inputs[0], "x", pad=0 if None in shape else None)
    got = servable.predict({"x": column}, 9, sources=[source])["y"]
    assert got.to_pylist() == values.astype(kind).tolist()


def test_ragged_components_take_the_lists_of_a_column(tmp_path):
    tf = import_tensorflow()

    def serve(tokens):
        return {"total": tf.reduce_sum(tokens, axis=1)}

    spec = tf.RaggedTensorSpec([None, None], tf.int64)
    path = save_function(tmp_path, serve, spec)
    loaded = tf.saved_model.load(path).signatures["serving_default"]
    names = sorted(loaded.structured_input_signature[1])
    splits = next(n for n in names if loaded.structured_input_signature[1][n].dtype == tf.int64)
    assert len(names) == 2
    del splits
    rows = [list(range(i % 4)) for i in range(20)]
    column = pa.array(rows, pa.list_(pa.int64()))
    ragged = {names[0]: "values", names[1]: "row_splits"}
    servable = load_servable(path, batch_rows=6, ragged=tuple(ragged.items()))
    sources = [InputColumn(s, "t", conversion=ragged[s.name]) for s in servable.signature.inputs]
    got = servable.predict(dict.fromkeys(names, column), 20, sources=sources)
    assert got["total"].to_pylist() == [sum(row) for row in rows]


def test_formats_are_detected_by_their_files(zoo, tmp_path):
    assert model_format_of(zoo("module")) == "SavedModel"
    assert model_format_of(zoo("model.keras")) == "Keras"
    assert model_format_of(zoo("model.tflite")) == "LiteRT"
    assert model_format_of(str(tmp_path)) is None
    (tmp_path / "model.h5").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=r"a \.keras or a \.tflite file, got .*model\.h5"):
        digest_model(str(tmp_path / "model.h5"))
    with pytest.raises(FileNotFoundError, match="Give its directory"):
        digest_model(zoo("module") + "/saved_model.pb")


def test_a_truncated_saved_model_is_reported_as_not_loadable(zoo, tmp_path):
    whole = (zoo("module") + "/saved_model.pb", tmp_path / "saved_model.pb")
    with open(whole[0], "rb") as f:
        whole[1].write_bytes(f.read()[:500])
    with pytest.raises(ModelError, match=r"Model .* does not load: saved_model.pb is damaged"):
        load_servable(str(tmp_path))


def test_missing_variables_say_that_the_model_does_not_load(zoo, tmp_path):
    with open(zoo("module") + "/saved_model.pb", "rb") as f:
        (tmp_path / "saved_model.pb").write_bytes(f.read())
    with pytest.raises(ModelError, match=r"does not load: .*variables"):
        load_servable(str(tmp_path))


@pytest.fixture(scope="module")
def own_layers(tmp_path_factory):
    """Save Keras files that hold Python: a class of one's own, and a lambda."""
    folder = tmp_path_factory.mktemp("own")
    code = (
        "import keras, sys\n"
        "class Mine(keras.layers.Layer):\n"
        "    def call(self, x): return x\n"
        "x = keras.Input((1,))\n"
        "layers = {'class': Mine(), 'lambda': keras.layers.Lambda(lambda v: v + 1)}\n"
        "for name, layer in layers.items():\n"
        "    keras.Model(x, layer(x)).save(f'{sys.argv[1]}/{name}.keras')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("class", r"Mine.*It has classes of its own; export"),
        ("lambda", r"It holds code, which is not run; export it where"),
    ],
)
def test_a_keras_file_with_custom_code_is_refused_with_export_advice(own_layers, name, told):
    with pytest.raises(ModelError, match=told):
        load_servable(str(own_layers / f"{name}.keras"))


def test_model_of_custom_ops_needs_their_library(zoo, tmp_path):
    servable = load_servable(zoo("custom_op"), op_libraries=(op_library(),))
    audio = pa.array(RNG.integers(-9999, 9999, (3, 800)).tolist(), pa.list_(pa.int64()))
    audio = audio.cast(pa.list_(pa.int16()))
    assert len(servable.predict({"audio": audio}, 3)["energy"].unique()) == 3
    # TensorFlow has that op, so rename it to an op whose library is missing.
    with open(zoo("custom_op") + "/saved_model.pb", "rb") as f:
        renamed = f.read().replace(b"AudioMicrofrontend", b"AudioMicrofrontEnd")
    (tmp_path / "saved_model.pb").write_bytes(renamed)
    with pytest.raises(
        ModelError,
        match=r"Op type not registered 'AudioMicrofrontEnd'.*with --load_op_library PATH",
    ):
        load_servable(str(tmp_path))


def test_litert_model_of_an_op_that_it_does_not_have_is_refused(zoo):
    with pytest.raises(ModelError, match=r"Igamma.*onvert the model with"):
        load_servable(zoo("custom_op.tflite"))


def test_keras_2_model_is_loaded_without_its_optimizer_and_is_not_touched(zoo):
    # If Keras 2 is installed, TensorFlow uses it to restore the optimizer. Users do not have it.
    code = (
        "import sys, pyarrow as pa\n"
        "sys.modules['tf_keras'] = None\n"
        "from scoreline.models.servable import load_servable\n"
        "from scoreline.models.runtimes.tensorflow import import_tensorflow\n"
        "path = sys.argv[1]\n"
        "try:\n"
        "    import_tensorflow().saved_model.load(path)\n"
        "except AttributeError as e:\n"
        "    print(e)\n"
        "columns = {name: pa.array([1.0, 2.0], pa.float32()) for name in ('a', 'b')}\n"
        "print(load_servable(path).predict(columns, 2)['y'].to_pylist())\n"
    )
    path = zoo("keras_2")
    before = digest_model(path)
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    refused, scores = done.stdout.splitlines()
    assert "add_slot" in refused
    assert scores == "[3.0, 6.0]"
    assert digest_model(path) == before


def test_library_that_is_none_is_refused(zoo, tmp_path):
    (tmp_path / "ops.so").write_bytes(b"no library")
    with pytest.raises(ModelError, match=r"--load_op_library .*ops\.so: "):
        load_servable(zoo("module"), op_libraries=(str(tmp_path / "ops.so"),))
    with pytest.raises(ModelError, match="LiteRT takes no libraries"):
        load_servable(zoo("model.tflite"), op_libraries=("ops.so",))


@pytest.mark.parametrize(
    ("name", "told"),
    [("broken.keras", "does not load"), ("broken.tflite", "does not load")],
)
def test_damaged_model_files_say_that_they_do_not_load(tmp_path, name, told):
    (tmp_path / name).write_bytes(b"no model at all" * 50)
    with pytest.raises(ModelError, match=told):
        load_servable(str(tmp_path / name))


def test_truncated_keras_file_is_refused(zoo, tmp_path):
    with zipfile.ZipFile(zoo("model.keras")) as source:
        names = [n for n in source.namelist() if not n.endswith(".h5")]
        with zipfile.ZipFile(tmp_path / "m.keras", "w") as target:
            for name in names:
                target.writestr(name, source.read(name))
    with pytest.raises(ModelError, match="does not load"):
        load_servable(str(tmp_path / "m.keras"))


def test_other_signatures_of_single_signature_formats_are_refused(zoo):
    with pytest.raises(ModelError, match=r"a \.keras file has only 'serving_default'"):
        load_servable(zoo("model.keras"), "other")
    with pytest.raises(ModelError, match="has no signature 'other'; it has serving_default"):
        load_servable(zoo("model.tflite"), "other")


def test_overwriting_a_litert_file_does_not_change_scores_of_the_loaded_model(zoo, tmp_path):
    path = tmp_path / "model.tflite"
    shutil.copy(zoo("model.tflite"), path)
    servable = load_servable(str(path))
    path.write_bytes(b"another")
    with ThreadPoolExecutor(1) as threads:  # a thread without an interpreter so far
        np.testing.assert_allclose(
            threads.submit(scores_of, servable).result(), 2 * A + B, rtol=1e-6
        )
