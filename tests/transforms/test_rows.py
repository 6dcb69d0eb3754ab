from __future__ import annotations

import collections
import typing

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.models.artifact import digest_model
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.signature import InputColumn, TensorSpec
from scoreline.transforms import rows as module
from scoreline.transforms.row_batches import RowReader
from scoreline.transforms.rows import ScoreRows
from tests.fakes import expected_scores, make_rows, save_model
from tests.model_zoo import save_function


class Event(typing.NamedTuple):
    id: int
    x: float
    n: int
    s: str


def events(rows):
    return make_rows(0, rows).drop_columns(["unread"]).to_pylist()


def source(name, dtype, shape=(None,), **options):
    return InputColumn(TensorSpec(name, dtype, shape), options.pop("column", name), **options)


@pytest.mark.parametrize("kind", [dict, beam.Row, Event])
def test_rows_of_every_kind_come_back_with_the_scores_of_the_model_in_order(model, kind):
    plain = events(300)
    wanted = expected_scores(make_rows(0, 300))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        elements = plain if kind is dict else [kind(**row) for row in plain]
        rows = pipeline | beam.Create(elements)
        scored = rows | ScoreRows(model=model)

        def check(found):
            rows = [r if isinstance(r, dict) else r.as_dict() for r in found]
            assert len(rows) == 300
            for row, given in zip(sorted(rows, key=lambda r: r["id"]), plain, strict=True):
                assert {name: row[name] for name in given} == given
                assert row["score"] == pytest.approx(wanted[row["id"]], rel=1e-6)
                assert row["pair"] == pytest.approx([row["score"], row["x"]])
                assert row["model_digest"] == digest_model(model)
            if kind is not dict:
                assert all(isinstance(row, beam.Row) for row in found)

        assert_that(scored.scores, check)
        assert_that(scored.dead_letters, equal_to([]), label="Dead")


def test_rows_with_a_schema_stay_rows_with_a_schema(model):
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        rows = pipeline | beam.Create([Event(1, 0.5, 2, "a"), Event(2, 1.5, 2, "b")])
        scored = (rows | ScoreRows(model=model, keep=["n"], outputs={"score": "late"})).scores
        total = scored | beam.GroupBy("n").aggregate_field("late", sum, "total")
        assert_that(total | beam.Map(lambda row: (row.n, row.total)), equal_to([(2, 8.0 + 11.0)]))


def test_rows_keep_their_timestamps_and_windows(model):
    plain = events(6)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        rows = (
            pipeline
            | "Stamp" >> beam.Create(list(enumerate(plain)))
            | beam.MapTuple(lambda at, row: TimestampedValue(row, 100 * at))
        )
        scored = rows | beam.WindowInto(FixedWindows(200)) | ScoreRows(model=model)
        places = scored.scores | beam.Map(
            lambda row, t=beam.DoFn.TimestampParam, w=beam.DoFn.WindowParam: (
                row["id"],
                float(t),
                float(w.start),
            )
        )
        wanted = [(at, 100.0 * at, 200.0 * (at // 2)) for at in range(6)]
        assert_that(places, equal_to(wanted))


def test_rows_of_a_stream_are_scored_when_their_bundle_ends(model):
    options = beam.options.pipeline_options.PipelineOptions(streaming=True)
    stream = test_stream.TestStream()
    for row in events(5):
        stream = stream.add_elements([row])
    with beam.Pipeline(runner="DirectRunner", options=options) as pipeline:
        rows = pipeline | stream.advance_watermark_to_infinity()
        scored = (rows | ScoreRows(model=model)).scores
        assert_that(scored | beam.Map(lambda row: row["id"]), equal_to([0, 1, 2, 3, 4]))


def test_a_buffer_is_scored_when_it_is_full_of_rows_or_of_bytes(model, monkeypatch):
    monkeypatch.setattr(module, "MAX_ROWS", 16)
    seen = []
    real = module._ScoreRowsDoFn._call

    def call(self, rows):
        seen.append(len(rows))
        return real(self, rows)

    monkeypatch.setattr(module._ScoreRowsDoFn, "_call", call)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        pipeline | beam.Create([0]) | beam.FlatMap(lambda _: events(40)) | ScoreRows(model=model)
    assert seen == [16, 16, 8]
    seen.clear()
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        rows = pipeline | beam.Create([0]) | beam.FlatMap(lambda _: events(10))
        rows | beam.Map(lambda row: {**row, "note": "x" * 900}) | ScoreRows(model=model)
    assert len(seen) == 2
    assert seen[0] in range(7, 10)  # rows of some 1,200 bytes


def test_rows_that_fail_leave_as_dead_letters_with_their_fields_and_the_reason(tmp_path):
    model = save_model(tmp_path / "strict", limit=10.0)
    plain = events(8)
    plain[1]["x"] = None
    plain[2]["x"] = "many"
    plain[3]["x"] = 99.0
    del plain[4]["n"]
    plain[5]["n"] = 2.5
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        scored = pipeline | beam.Create(plain, reshuffle=False) | ScoreRows(model=model)
        assert_that(scored.scores | beam.Map(lambda row: row["id"]), equal_to([0, 6, 7]))

        def check(letters):
            why = {row["id"]: (row["_step"], row["_reason"]) for row in letters}
            assert why.keys() == {1, 2, 3, 4, 5}
            assert why[1][0] == why[4][0] == "BuildFeatures"
            assert "null for input 'x'" in why[1][1]
            assert why[2] == (
                "ReadRows",
                "input 'x' (field 'x'): expected float32 [None], got 'many'",
            )
            assert why[3][0] == "Predict"
            assert why[5] == ("ReadRows", "input 'n' (field 'n'): expected int64 [None], got 2.5")
            assert all(row["s"] == plain[row["id"]]["s"] for row in letters)

        assert_that(scored.dead_letters, check, label="Dead")


def test_a_field_that_no_row_has_fails_the_job_with_the_fields_there_are(model):
    with (
        pytest.raises(Exception, match="expected rows with a field 'n', got one with id, x"),
        beam.Pipeline(runner="FnApiRunner") as pipeline,
    ):
        pipeline | beam.Create([beam.Row(id=1, x=1.0)]) | ScoreRows(model=model)


def test_an_output_must_not_overwrite_a_field(model):
    row = {**events(1)[0], "score": 1.0}
    with (
        pytest.raises(Exception, match="expected rows without a field 'score'"),
        beam.Pipeline(runner="FnApiRunner") as pipeline,
    ):
        pipeline | beam.Create([row]) | ScoreRows(model=model)


def test_arrays_and_nested_lists_fill_inputs_with_a_shape(tmp_path):
    tf = import_tensorflow()
    path = save_function(
        tmp_path / "image",
        lambda image: {"total": tf.reduce_sum(tf.cast(image, tf.float32), [1, 2])},
        tf.TensorSpec([None, 2, 3], tf.uint8, name="image"),
    )
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    rows = [{"at": 0, "image": image}, {"at": 1, "image": image + 1}]
    nested = [{"at": 2, "image": image.tolist()}, {"at": 3, "image": None}]
    for elements, scores, dead in ((rows, [15, 21], []), (rows + nested, [15, 21, 15], [3])):
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            scored = pipeline | beam.Create(elements, reshuffle=False) | ScoreRows(model=path)
            totals = scored.scores | beam.Map(lambda row: row["total"])
            assert_that(totals, equal_to(scores))
            places = scored.dead_letters | beam.Map(lambda row: row["at"])
            assert_that(places, equal_to(dead), label="Dead")


@settings(max_examples=60)
@given(
    values=st.lists(
        st.none() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3) | st.booleans()
    )
)
def test_what_does_not_fit_an_integer_is_never_cut_to_fit(values):
    reader = RowReader([source("n", "int32")])
    batch, misfits = reader.read([{"n": value} for value in values])
    column = batch.column(0).to_pylist()
    assert batch.column(0).type == pa.int32()
    for at, value in enumerate(values):
        if at in misfits:
            assert column[at] is None
            continue
        assert column[at] == value
        assert value is None or -(2**31) <= value < 2**31


def test_fields_of_fields_and_conversions_are_read_as_columns_are():
    reader = RowReader([source("x", "float32", column="item.price", conversion="float32")])
    Item = collections.namedtuple("Item", "price")
    rows = [{"item": {"price": 1}}, {"item": None}, {"item": Item(3)}, {"item": {}}]
    batch, misfits = reader.read(rows)
    assert batch.column(0).to_pylist() == [1, None, 3, None]
    assert not misfits


def test_two_inputs_of_different_dtypes_may_read_one_field():
    reader = RowReader([source("a", "int64", column="v"), source("b", "float32", column="v")])
    batch, misfits = reader.read([{"v": 3}])
    assert batch.to_pydict() == {"a": [3], "b": [3.0]}
    assert not misfits
