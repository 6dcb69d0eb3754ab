"""Models that parse tf.Examples get the records as they are."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.fakes import make_rows, write_file
from tests.inputs import (
    assert_scores,
    example_scores,
    flip_middle,
    save_example_model,
    to_examples,
    write_dataset,
    write_rows,
)
from tests.pipelines.test_bad_input import assert_refused


@pytest.fixture(scope="module")
def example_model(tmp_path_factory):
    return save_example_model(tmp_path_factory.mktemp("model") / "parser")


def test_records_go_straight_to_a_model_that_parses_examples(score, tmp_path, example_model):
    root, rows = write_dataset(tmp_path / "lake", "tfrecord.gz")
    ended = score("--check", input=root, model=example_model)
    assert "examples string [None] ← _example" in ended.out
    ended = score(input=root, model=example_model)
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", example_scores(rows))


def test_records_are_decoded_when_an_option_speaks_of_a_feature(score, tmp_path, example_model):
    rows = make_rows(0, 100)
    other = rows.rename_columns(["id", "y", "n", "s", "unread"])
    write_rows(tmp_path / "lake", "date=1", "0", other, "tfrecord")
    ended = score(input=tmp_path / "lake", model=example_model)
    assert_refused(ended, "wants input 'x' as float32 [None]; the table has no column 'x'")
    ended = score("--columns=x=y", input=tmp_path / "lake", model=example_model)
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", example_scores(rows))


def test_parquet_may_hold_serialized_examples(score, tmp_path, example_model):
    rows = make_rows(0, 100)
    held = pa.table({"id": rows["id"], "payload": pa.array(to_examples(rows))})
    write_file(tmp_path / "lake", "date=1", "0.parquet", held)
    given = {"input": tmp_path / "lake", "model": example_model}
    ended = score("--columns=examples=payload", **given)
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", example_scores(rows))
    ended = score("--reprocess=all", "--columns=examples=payload", "--fill=x=1", **given)
    assert_refused(ended, "--columns examples=payload gives whole tf.Examples", "got --fill x")


def test_partition_columns_count_for_models_that_parse_examples(score, tmp_path, example_model):
    """The records would tell the model another value than that of the folder."""
    rows = make_rows(0, 50)
    write_rows(tmp_path / "lake", "n=7", "0", rows, "tfrecord")
    ended = score(input=tmp_path / "lake", model=example_model)
    assert ended.code == 0, ended
    held = rows.set_column(2, "n", pa.array([7] * 50))
    assert_scores(tmp_path / "scores", example_scores(held))


def test_records_go_straight_through_with_a_schema_and_damaged_ones_are_named(
    score, tmp_path, example_model
):
    root, rows = write_dataset(tmp_path / "lake", "tfrecord")
    schema = tmp_path / "schema.pbtxt"
    schema.write_text(
        'feature { name: "id" type: INT shape { } } feature { name: "n" type: INT } '
        'feature { name: "x" type: FLOAT }'
    )
    flip_middle(tmp_path / "lake" / "date=2024-01-01" / "0.tfrecord")
    ended = score(input=root, model=example_model, schema=schema)
    assert ended.code == 1, ended
    assert "0.tfrecord cannot be read: the checksum of " in ended.out
    assert_scores(tmp_path / "scores", example_scores(rows.slice(300)))
    schema.write_text('feature { name: "id" type: INT shape { } } feature { name: "x" type: INT }')
    ended = score(input=root, model=example_model, schema=schema)
    assert_refused(
        ended, "has no column 'n'", "the table has column 'x' as large_list<item: int64>"
    )
