"""A damaged or changed file of any format fails its partition by name; the others publish."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.fakes import expected_scores, make_rows, read_scores
from tests.inputs import (
    assert_scores,
    flags_of,
    flip_middle,
    frame,
    to_examples,
    write_dataset,
    write_rows,
)


def cut(path):
    path.write_bytes(path.read_bytes()[:-25])


def spoil_value(path):
    rows = path.read_bytes().split(b"\n")
    rows[100] = rows[100].replace(b"0.", b"zero.", 1)
    path.write_bytes(b"\n".join(rows))


@pytest.mark.parametrize(
    ("suffix", "spoil", "message"),
    [
        ("tfrecord", flip_middle, "1.tfrecord cannot be read: the checksum of "),
        ("tfrecord", cut, "1.tfrecord cannot be read: it ends within the record of "),
        ("tfrecord.gz", cut, "1.tfrecord.gz cannot be read: after byte "),
        ("csv", spoil_value, "1.csv cannot be read: row 101, column 'x': expected double"),
        ("csv", cut, "1.csv cannot be read: "),
        ("csv.gz", cut, "1.csv.gz cannot be read: its gzip data is damaged, cut off"),
        ("csv.gz", lambda path: path.write_bytes(b"id,x"), "1.csv.gz cannot be read: its gzip"),
        ("csv", lambda path: path.write_bytes(b"\0"), "1.csv cannot be read: expected UTF-8 text"),
        ("jsonl", spoil_value, "1.jsonl cannot be read: line 101: expected an object in JSON"),
        ("jsonl", cut, "1.jsonl cannot be read: line 150: expected an object in JSON"),
        ("json.gz", cut, "1.json.gz cannot be read: its gzip data is damaged, cut off"),
        ("jsonl", lambda path: path.write_bytes(b"[1]"), "expected JSON Lines, an object in each"),
    ],
)
def test_damaged_file_fails_its_partition_and_the_others_publish(
    score, tmp_path, suffix, spoil, message
):
    root, rows = write_dataset(tmp_path / "lake", suffix)
    path = tmp_path / "lake" / "date=2024-01-02" / f"1.{suffix}"
    spoil(path)

    ended = score(*flags_of(suffix), input=root)

    assert ended.code == 1, ended
    assert "2 committed, 1 NOT published" in ended.out
    assert f"date=2024-01-02 failed: file {path.parent}/" in ended.out
    assert message in ended.out
    wanted = {i: s for i, s in expected_scores(rows).items() if not 300 <= i < 600}
    assert_scores(tmp_path / "scores", wanted)


def test_damaged_first_file_does_not_keep_the_schema_from_being_inferred(score, tmp_path):
    for suffix in ("tfrecord", "csv", "jsonl"):
        root, _ = write_dataset(tmp_path / suffix, suffix)
        (tmp_path / suffix / "date=2024-01-01" / f"0.{suffix}").write_bytes(b"\x00\xff damaged")
        ended = score(*flags_of(suffix), input=root, output=tmp_path / f"scores {suffix}")
        assert ended.code == 1, ended
        assert "2 committed, 1 NOT published" in ended.out


def test_file_that_changes_after_planning_fails_its_partition(score, tmp_path, monkeypatch):
    root, _ = write_dataset(tmp_path / "lake", "csv", days=2)
    from scoreline.pipelines import score_batch

    real = score_batch.create_table

    def change_then_create(*args):
        write_rows(tmp_path / "lake", "date=2024-01-02", "0", make_rows(0, 7), "csv")
        real(*args)

    monkeypatch.setattr(score_batch, "create_table", change_then_create)
    ended = score(*flags_of("csv"), input=root)
    assert ended.code == 1
    assert "0.csv changed since the run was planned: expected" in ended.out
    assert read_scores(tmp_path / "scores").num_rows == 300


def test_record_that_breaks_the_inferred_schema_names_file_and_record(score, tmp_path):
    root, rows = write_dataset(tmp_path / "lake", "tfrecord")
    two = make_rows(0, 1).set_column(1, "x", pa.array([[1.0, 2.0]], pa.list_(pa.float32())))
    path = tmp_path / "lake" / "date=2024-01-03" / "1.tfrecord"
    path.write_bytes(path.read_bytes() + frame(*to_examples(two)))
    ended = score(input=root)
    assert ended.code == 1, ended
    assert f"file {path} cannot be read: record 150 at byte " in ended.out
    assert "has 2 values of feature 'x'; expected exactly one" in ended.out
    assert_scores(tmp_path / "scores", expected_scores(rows.slice(0, 600)))
