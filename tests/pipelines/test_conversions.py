"""Columns that need conversions, and lists that do not fill a shape, in the pipeline."""

from __future__ import annotations

import decimal

import pyarrow as pa

from scoreline.models.runtimes.tensorflow import import_tensorflow
from tests.fakes import read_scores, write_file
from tests.model_zoo import save_function


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
