"""The schema of --schema is applied as it says, is part of the run, and is refused if wrong."""

from __future__ import annotations

import pytest

from tests.fakes import expected_scores
from tests.inputs import (
    assert_scores,
    write_dataset,
)
from tests.pipelines.test_bad_input import assert_refused


def test_given_schema_is_read_as_it_says_and_is_part_of_the_run(score, tmp_path):
    root, rows = write_dataset(tmp_path / "lake", "csv")
    schema = tmp_path / "schema.json"
    schema.write_text('{"id": "string", "x": "float32", "n": "int64", "s": "string"}')
    ended = score(input=root, schema=schema)
    assert ended.code == 0, ended
    wanted = {str(i): value for i, value in expected_scores(rows).items()}
    assert_scores(tmp_path / "scores", wanted)
    assert "Nothing is left to do" in score(input=root, schema=schema).out
    schema.write_text('{"id": "string", "x": "float32", "n": "int32", "s": "string"}')
    assert "3 of them were scored with another" in score(input=root, schema=schema).out
    assert "3 committed" in score("--reprocess=all", input=root, schema=schema).out


def test_given_schema_of_features(score, tmp_path):
    root, rows = write_dataset(tmp_path / "lake", "tfrecord")
    schema = tmp_path / "schema.pbtxt"
    text = """
        feature { name: "id" type: INT shape { dim { size: 1 } } }
        feature { name: "n" type: INT value_count { min: 1 max: 1 } }
        feature { name: "x" type: FLOAT shape { } }
        feature { name: "s" type: BYTES }
    """
    schema.write_text(text)
    ended = score(input=root, schema=schema)
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", expected_scores(rows))
    schema.write_text(text.replace("type: BYTES", ""))
    assert_refused(
        score(input=root, schema=schema),
        "--schema",
        "feature 's': expected type INT, FLOAT or BYTES, got TYPE_UNKNOWN",
    )


@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        ("parquet", "{}", "Parquet files say their own schema. Leave the option out"),
        ("csv", "{", 'expected JSON such as {"id": "int64"'),
        ("csv", '["id"]', "expected an object of columns and types"),
        ("jsonl", '{"id": "integer"}', "column 'id': expected a type such as int64"),
        ("tfrecord", "fixture", "expected a tensorflow-metadata Schema in text format"),
        ("tfrecord", "", "expected a tensorflow-metadata Schema with features, got none"),
    ],
)
def test_wrong_schema_is_refused(score, tmp_path, suffix, text, message):
    root, _ = write_dataset(tmp_path / "lake", suffix, days=1)
    (tmp_path / "schema").write_text(text)
    assert_refused(score(input=root, schema=tmp_path / "schema"), "--schema", message)


def test_schema_file_that_is_not_there_is_refused(score, tmp_path):
    assert_refused(score(schema=tmp_path / "no"), "--schema: expected a file, got")
