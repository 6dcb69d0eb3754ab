"""Columns of every dtype and rank, through the pipeline into the Delta table and back, by key."""

from __future__ import annotations

import decimal

import numpy as np
import pyarrow as pa
import pytest

from models.tensorflow_runtime import import_tensorflow
from tests.fakes import read_scores, write_file
from tests.model_zoo import save_function

ROWS = 30
RNG = np.random.default_rng(11)
LEAVES = {
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bfloat16": pa.float32(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
SHAPES = [(), (4,), (2, 3, 1), (None,), (None, 2)]


def nest(leaf, shape):
    for size in reversed(shape):
        leaf = pa.list_(leaf) if size is None else pa.list_(leaf, size)
    return leaf


def values_of(dtype, shape):
    sizes = [3 if size is None else size for size in shape]
    numbers = RNG.integers(0, 2, (ROWS, *sizes))
    if dtype == "string":
        return np.array(["", "ü"], object)[numbers]
    if dtype == "int64":
        return numbers * (2**53 + 1)
    return numbers.astype("float32" if dtype == "bfloat16" else dtype)


@pytest.mark.parametrize("dtype", LEAVES)
def test_values_come_back_from_the_table_as_they_went_in(score, tmp_path, dtype):
    tf = import_tensorflow()
    kind = tf.dtypes.as_dtype(dtype)
    names = [f"x{rank}" for rank in range(len(SHAPES))]
    path = _save(tmp_path / "model", kind, names)
    values = {name: values_of(dtype, shape) for name, shape in zip(names, SHAPES, strict=True)}
    columns = {
        name: pa.array(values[name].tolist(), nest(LEAVES[dtype], shape))
        if dtype != "float16"
        else pa.array(list(map(_halves, values[name].tolist())), nest(LEAVES[dtype], shape))
        for name, shape in zip(names, SHAPES, strict=True)
    }
    rows = pa.table({"id": np.arange(ROWS), **columns})
    write_file(tmp_path / "lake", "date=1", "0.parquet", rows.slice(0, 11))
    write_file(tmp_path / "lake", "date=1", "1.parquet", rows.slice(11))
    blank = {"string": "-", "bool": "false"}.get(dtype, "0")
    options = [f"--pad={name}={blank}" for name, s in zip(names, SHAPES, strict=True) if None in s]
    if dtype == "bfloat16":
        options.append("--columns=" + ",".join(f"{name}=bfloat16({name})" for name in names))
    ended = score(*options, "--batch_rows=7", input=tmp_path / "lake", model=path)
    assert ended.code == 0, ended.err
    scores = read_scores(tmp_path / "scores").sort_by("id")
    assert scores["id"].to_pylist() == list(range(ROWS))
    for name in names:
        assert scores[f"y{name[1:]}"].to_pylist() == values[name].tolist()


def _halves(value):
    return list(map(_halves, value)) if isinstance(value, list) else np.float16(value)


def _save(path, kind, names):
    tf = import_tensorflow()
    specs = {
        name: tf.TensorSpec([None, *shape], kind, name=name)
        for name, shape in zip(names, SHAPES, strict=True)
    }

    @tf.function(input_signature=list(specs.values()))
    def serve(x0, x1, x2, x3, x4):
        given = (x0, x1, x2, x3, x4)
        return {f"y{i}": tf.identity(x) for i, x in enumerate(given)}

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})
    return str(path)


def test_structs_decimals_times_and_bytes(score, tmp_path):
    tf = import_tensorflow()

    def serve(price, at, raw):
        return {"sum": price + tf.cast(at, tf.float64), "echo": tf.strings.join([raw, b"\xff"])}

    model = save_function(
        tmp_path / "model",
        serve,
        tf.TensorSpec([None], tf.float64, name="price"),
        tf.TensorSpec([None], tf.int64, name="at"),
        tf.TensorSpec([None], tf.string, name="raw"),
    )
    price = pa.array([decimal.Decimal(1), decimal.Decimal(2), None], pa.decimal128(10, 2))
    user = pa.StructArray.from_arrays([price, pa.array(["a", "b", "c"])], ["price", "name"])
    at = pa.array([0, 10**6, 2 * 10**6], pa.int64()).cast(pa.timestamp("us", "UTC"))
    raw = pa.array([b"\x00", b"x", b""])
    rows = pa.table({"id": [0, 1, 2], "user": user, "at": at, "raw": raw})
    write_file(tmp_path / "lake", "date=1", "0.parquet", rows)
    ended = score(
        "--columns=price=float64(user.price),at=epoch_s(at)",
        "--fill=price=0.5",
        "--keep=user.name",
        "--outputs=sum,echo=binary(echo)",
        input=tmp_path / "lake",
        model=model,
    )
    assert ended.code == 0, ended.err
    scores = read_scores(tmp_path / "scores").sort_by("id")
    assert scores["sum"].to_pylist() == [1.0, 3.0, 2.5]
    assert scores["echo"].to_pylist() == [b"\x00\xff", b"x\xff", b"\xff"]
    assert scores["user.name"].to_pylist() == ["a", "b", "c"]


def test_lists_that_do_not_fill_the_shape_cost_their_rows(score, tmp_path):
    tf = import_tensorflow()
    model = save_function(
        tmp_path / "model",
        lambda x: {"total": tf.reduce_sum(x, axis=1)},
        tf.TensorSpec([None, 3], tf.int64, name="x"),
    )
    lists = [[1, 2, 3], [1, 2], [1, 2, 3, 4], None, [1, None, 3], [4, 5, 6]]
    rows = pa.table({"id": range(6), "x": pa.array(lists, pa.list_(pa.int64()))})
    write_file(tmp_path / "lake", "date=1", "0.parquet", rows)
    ended = score("--max_dead_letter_ratio=1", input=tmp_path / "lake", model=model)
    assert ended.code == 3, ended.err
    scores = read_scores(tmp_path / "scores")
    assert dict(zip(scores["id"].to_pylist(), scores["total"].to_pylist(), strict=True)) == {
        0: 6,
        5: 15,
    }
    ended = score(
        "--reprocess=all",
        "--pad=x=0",
        "--truncate=x",
        "--fill=x=10",
        input=tmp_path / "lake",
        model=model,
    )
    assert ended.code == 0, ended.err
    scores = read_scores(tmp_path / "scores").sort_by("id")
    assert scores["total"].to_pylist() == [6, 3, 6, 0, 14, 15]
