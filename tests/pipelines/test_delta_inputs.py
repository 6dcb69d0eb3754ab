"""A Delta table is read at one version, with its partitions and its columns."""

from __future__ import annotations

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from scoreline.lake.table.log import read_commits
from tests.fakes import expected_scores, make_rows, read_scores, write_file
from tests.inputs import (
    assert_scores,
    by_id,
    write_dataset,
)
from tests.pipelines.test_bad_input import assert_refused


def dated(rows, date):
    return rows.append_column("date", pa.array([date] * rows.num_rows).cast("date32"))


def test_delta_table_is_read_at_one_version_that_is_recorded(score, tmp_path):
    root, _ = write_dataset(tmp_path / "lake", "delta", files=1)
    stray = write_file(tmp_path / "lake", "date=2024-01-01", "stray.parquet", make_rows(9000, 5))
    overwritten = make_rows(300, 50).append_column(
        "date", pa.array(["2024-01-02"] * 50).cast("date32")
    )
    write_deltalake(root, overwritten, mode="overwrite", predicate="date = '2024-01-02'")
    ended = score("--check", "--partitions=date=2024-01-02..2024-01-03", input=root)
    assert "Delta table, version 3" in ended.out
    assert "350 in 2 shards" in ended.out
    ended = score(input=root)
    assert ended.code == 0, ended
    assert stray.exists()
    scores = by_id(read_scores(tmp_path / "scores"))
    assert sorted(scores) == [*range(350), *range(600, 900)]
    commits = read_commits(DeltaTable(str(tmp_path / "scores")))
    assert {c.get("input_version") for c in commits if "partition" in c} == {"3"}
    assert "Nothing is left to do" in score(input=root).out
    appended = make_rows(5000, 10).append_column(
        "date", pa.array(["2024-01-03"] * 10).cast("date32")
    )
    write_deltalake(root, appended, mode="append")
    assert "1 committed" in score("--reprocess=stale", input=root).out


def test_delta_table_while_it_is_written_to_keeps_the_version_that_was_planned(
    score, tmp_path, monkeypatch
):
    root, _ = write_dataset(tmp_path / "lake", "delta", days=1, files=1)
    from scoreline.pipelines import score_batch

    real = score_batch.create_table

    def append_then_create(*args):
        more = make_rows(300, 10).append_column(
            "date", pa.array(["2024-01-01"] * 10).cast("date32")
        )
        write_deltalake(root, more, mode="append")
        real(*args)

    monkeypatch.setattr(score_batch, "create_table", append_then_create)
    assert score(input=root).code == 0
    assert sorted(by_id(read_scores(tmp_path / "scores"))) == list(range(300))
    monkeypatch.undo()


def test_delta_partitions_that_are_not_meant_are_not_looked_at(score, tmp_path):
    root, rows = write_dataset(tmp_path / "lake", "delta", files=1)
    for file in (tmp_path / "lake" / "date=2024-01-01").iterdir():
        file.unlink()
    ended = score("--partitions=date=2024-01-02..2024-01-03", input=root)
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", expected_scores(rows.slice(300)))
    ended = score(input=root)
    assert ended.code == 1
    assert "date=2024-01-01 failed: file" in ended.err + ended.out
    assert "cannot be read: " in ended.err + ended.out


def test_delta_table_whose_older_files_lack_a_column(score, tmp_path):
    root = str(tmp_path / "lake")
    old, new = make_rows(0, 20), make_rows(20, 20)
    older = old.drop_columns(["n", "unread"])
    write_deltalake(root, dated(older, "2024-01-01"), partition_by=["date"])
    write_deltalake(root, dated(new, "2024-01-02"), mode="append", schema_mode="merge")
    ended = score(input=root)
    assert_refused(ended, "the table has no column 'n'", "(in date=2024-01-01). Others have it")
    allowed = ("--allow_missing=n=1", "--allow_missing=unread=null", "--keep=unread")
    # The first partition alone has no file with the kept column: its type is Delta's.
    for spec in ("2024-01-01", "2024-01-01..2024-01-02"):
        ended = score(*allowed, f"--partitions=date={spec}", input=root)
        assert ended.code == 0, ended
    filled = old.set_column(2, "n", pa.array([1] * 20))
    assert_scores(tmp_path / "scores", expected_scores(pa.concat_tables([filled, new])))
    kept = by_id(read_scores(tmp_path / "scores"), "unread")
    assert {kept[i] for i in range(20)} == {None}
    assert {kept[i] for i in range(20, 40)} == {"…"}


def test_delta_partition_columns_feed_inputs(score, tmp_path):
    rows = pa.concat_tables([make_rows(0, 30), make_rows(30, 30)])
    write_deltalake(str(tmp_path / "lake"), rows, partition_by=["n"])
    ended = score(input=tmp_path / "lake")
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", expected_scores(rows))
    assert str(read_scores(tmp_path / "scores").schema.field("n").type) == "string"


def test_delta_table_without_partitions_is_refused(score, tmp_path):
    write_deltalake(str(tmp_path / "lake"), make_rows(0, 3))
    ended = score(input=tmp_path / "lake")
    assert_refused(ended, "--input: ", "expected a Delta table with partition columns, got one")
