"""Bad input is reported in full, before the first row if possible, and never half published."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from tests.fakes import make_rows, read_scores, write_file, write_lake
from tests.lake.files.test_decode import write_encrypted


def spoil_lake(tmp_path, change):
    """Write three days, and change the rows of the second day with a function."""
    root = tmp_path / "lake"
    write_lake(root, days=3)
    write_file(root, "date=2024-01-02", "1.parquet", change(make_rows(400, 20)))
    return str(root)


def assert_refused(ended, *messages):
    assert ended.code == 2, ended
    for message in messages:
        assert message in ended.err, ended.err


def test_all_wrong_options_are_reported_at_once(score):
    ended = score(
        "--batch_rows=0",
        "--workers=none",
        "--partitions=2024",
        "--model_digest=abc",
        "--max_dead_letter_ratio=2",
        "--fill=x",
        "--columns=x",
        "--keep=id",
        "--no_such_flag",
        input=None,
    )
    assert_refused(
        ended,
        "10 things are wrong:",
        "unknown option --no_such_flag",
        "--input is required",
        "--batch_rows: expected auto or a whole number of at least 1, got '0'",
        "--workers: expected a whole number of at least 1, got 'none'",
        "--partitions 2024: expected COLUMN=VALUE",
        "--model_digest: expected sha256: and 64 hex digits, got 'abc'",
        "--max_dead_letter_ratio: expected a number from 0 to 1, got '2'",
        "--fill: expected T=VALUE, got 'x'",
        "--columns: expected T=C, got 'x'",
        "output column 'id' comes from more than one of",
    )


def test_problems_of_dataset_model_and_table_are_reported_at_once(score, tmp_path):
    (tmp_path / "scores").write_text("not a table")
    ended = score(input=tmp_path / "nowhere", model=tmp_path / "no model")
    assert_refused(
        ended,
        "3 things are wrong:",
        "--input: expected a folder of partitions, got",
        "--model: expected a SavedModel directory (with saved_model.pb)",
        "--output: expected a Delta table or nothing",
    )


def test_a_wrong_value_a_bad_selection_a_missing_column_and_a_wrong_table_are_told_at_once(
    score, tmp_path
):
    """The first needs no look at data; the last needs the model, the files and the table."""
    lake = spoil_lake(tmp_path, lambda rows: rows)
    write_file(
        tmp_path / "lake", "date=2024-01-03", "1.parquet", make_rows(400, 9).drop_columns(["x"])
    )
    output = tmp_path / "other"
    write_deltalake(output, pa.table({"id": ["text"], "date": ["d"]}), partition_by=["date"])
    ended = score(
        "--batch_rows=0",
        "--partitions=2024",
        "--columns=q=n",
        "--columns=n=half(n)",
        "--range=late=0..1",
        input=lake,
        output=output,
    )
    assert_refused(
        ended,
        "10 things are wrong:",
        "--batch_rows: expected auto or a whole number of at least 1, got '0'",
        "--partitions 2024: expected COLUMN=VALUE",
        "--columns q: signature 'serving_default' has no input 'q'",
        "--columns: expected a column, or one in a conversion of",
        "--range late: expected an output of numbers",
        "wants input 'x' as float32 [None]; the table has no column 'x'",
        '--output: expected column \'id\' as "long", the table has "string"',
    )


def test_no_partition_matches(score):
    ended = score("--partitions=date=2023-01-01..2023-12-31", "--partitions=day=1")
    assert_refused(
        ended,
        "--partitions date=2023-01-01..2023-12-31: no partition matches",
        "has 3, from date=2024-01-01 to date=2024-01-03",
        "--partitions day=1: no partition matches",
    )


def test_no_partition_at_all(score, tmp_path):
    (tmp_path / "lake").mkdir()
    assert_refused(score(input=tmp_path / "lake"), "--input: expected folders column=value with")


def test_column_that_is_missing_in_one_partition_of_many_names_it(score, tmp_path):
    ended = score(input=spoil_lake(tmp_path, lambda rows: rows.drop_columns(["x"])))
    assert_refused(
        ended,
        "wants input 'x' as float32 [None]; the table has no column 'x'. Add the column, or name "
        "another with --columns x=COLUMN (in date=2024-01-02).",
    )
    assert not (tmp_path / "scores").exists()


def test_wrong_type_in_one_partition_says_what_to_do(score, tmp_path):
    def narrow(rows):
        return rows.set_column(1, "x", rows["x"].cast(pa.float64()))

    ended = score(input=spoil_lake(tmp_path, narrow))
    assert_refused(
        ended,
        "Signature 'serving_default' wants input 'x' as float32 [None]; the table has column 'x' "
        "as double. Cast it in the table, ask for the nearest value with --columns "
        "'x=float32(x)', or export the model with an input that holds every double "
        "(in date=2024-01-02).",
    )


def test_wider_types_in_one_partition_are_scored(score, tmp_path):
    def narrow(rows):
        return rows.set_column(2, "n", rows["n"].cast(pa.int16()))

    assert score(input=spoil_lake(tmp_path, narrow)).code == 0


def test_missing_key_and_copied_column_of_two_types_are_named(score, tmp_path):
    def change(rows):
        return rows.set_column(4, "unread", pa.array(range(rows.num_rows)))

    ended = score("--keep=unread,absent", input=spoil_lake(tmp_path, change))
    assert_refused(
        ended,
        "--keep: the table has no column 'absent' (in all 3 partitions).",
        "column 'unread' cannot be copied to one table: it is string in",
        "int64 in date=2024-01-02",
        "Cast it in the table, or leave it out of --keep",
    )


def test_column_delta_cannot_hold_is_named(score, tmp_path):
    rows = make_rows(0, 3).append_column("t", pa.array([1, 2, 3], pa.time64("ns")))
    write_file(tmp_path / "lake", "date=1", "0.parquet", rows)
    ended = score("--keep=t", input=tmp_path / "lake")
    assert_refused(ended, "--keep: column 't': a Delta table cannot hold time64[ns]. Write")


def test_unknown_names_of_signature_inputs_and_outputs(score):
    assert_refused(score("--signature=other"), "has no signature 'other'; it has serving_default")
    ended = score("--columns=y=x", "--fill=z=1", "--fill=n=x", "--outputs=label")
    assert_refused(
        ended,
        "--columns y: signature 'serving_default' has no input 'y'; it has n, s, x",
        "--fill z: signature 'serving_default' has no input 'z'",
        "--fill n=x: expected a int64",
        "--outputs label: signature 'serving_default' has no output 'label'; it has pair, score",
    )


def test_signature_input_without_a_column(score):
    assert_refused(score("--columns=x=absent"), "the table has no column 'absent'")


def test_other_model_digest_is_refused(score):
    digest = "sha256:" + "0" * 64
    ended = score(f"--model_digest={digest}")
    assert_refused(ended, f"--model_digest: expected {digest}, got sha256:", "It was not run")


def test_output_names_do_not_collide(score, tmp_path):
    rows = make_rows(0, 3).append_column("score", pa.array([1.0, 2.0, 3.0]))
    write_file(tmp_path / "lake", "date=1", "0.parquet", rows)
    ended = score("--keep=score", input=tmp_path / "lake")
    assert_refused(ended, "output 'score' has the name of another output column")
    ended = score("--outputs=score=date")
    assert_refused(ended, "output column 'date' is a partition column")
    ended = score("--keep=date")
    assert_refused(ended, "output column 'date' is a partition column, which the output has anyway")


def test_model_path_without_a_saved_model(score, tmp_path):
    assert_refused(
        score(model=tmp_path), "--model: expected a SavedModel directory", "there is none"
    )


def test_output_that_is_no_delta_table_is_left_alone(score, tmp_path):
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "precious.txt").write_text("keep")
    assert_refused(score(), "a folder with other content. Give another path, or empty the folder")
    assert os.listdir(tmp_path / "scores") == ["precious.txt"]


def test_output_partitioned_differently(score, tmp_path):
    write_deltalake(tmp_path / "scores", pa.table({"id": [1], "day": ["x"]}), partition_by=["day"])
    assert_refused(score(), "expected a table partitioned by date, as the input is, got one by day")


def test_output_with_other_columns(score, tmp_path):
    assert score("--partitions=date=2024-01-01").code == 0
    ended = score("--keep=n", "--outputs=score")
    assert_refused(
        ended,
        "expected column 'n' as \"long\", the table has no such column",
        "expected column 'pair' as no column, the table has",
    )


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def corrupt_page(path):
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)


def encrypt(path):
    """Encrypt a column that nobody reads: pyarrow would abort the process all the same."""
    write_encrypted(path, pq.read_table(path), column_keys={"k": ["unread"]}, plaintext_footer=True)


@pytest.mark.parametrize(
    "spoil",
    [
        truncate,
        corrupt_page,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("csv"),
        encrypt,
    ],
    ids=["truncated", "corrupt page", "zero bytes", "no Parquet", "encrypted column"],
)
def test_damaged_file_fails_its_partition_and_names_itself(score, tmp_path, spoil):
    root = write_lake(tmp_path / "lake", days=3)
    spoil(Path(root) / "date=2024-01-02" / "1.parquet")

    ended = score(input=root)

    assert ended.code == 1, ended
    assert "2 committed, 1 NOT published" in ended.out
    assert "date=2024-01-02 failed: file " in ended.out
    assert "date=2024-01-02/1.parquet cannot be read: " in ended.out
    scores = read_scores(tmp_path / "scores")
    assert set(scores["date"].to_pylist()) == {"2024-01-01", "2024-01-03"}
    assert scores.num_rows == 600
    # After a repair, a rerun scores only the rest.
    write_lake(tmp_path / "again", days=3)
    (tmp_path / "again/date=2024-01-02/1.parquet").rename(f"{root}/date=2024-01-02/1.parquet")
    ended = score(input=root)
    assert ended.code == 0
    assert "1 committed" in ended.out
    assert read_scores(tmp_path / "scores").num_rows == 900


def test_only_damaged_files_still_fail_loudly(score, tmp_path):
    (tmp_path / "lake/date=1").mkdir(parents=True)
    (tmp_path / "lake/date=1/0.parquet").write_bytes(b"")
    ended = score(input=tmp_path / "lake")
    assert ended.code == 1
    assert "date=1 failed: file" in ended.err


def test_folder_that_is_no_partition_is_an_error(score, tmp_path):
    write_file(tmp_path / "lake", "nodate", "0.parquet", make_rows(0, 3))
    write_file(tmp_path / "lake", "date=1", "0.parquet", make_rows(0, 3))
    ended = score(input=tmp_path / "lake")
    assert_refused(ended, "expected a folder column=value, got 'nodate'")


def test_odd_entries_cost_their_partition_and_only_if_it_is_meant(score, tmp_path):
    root = tmp_path / "lake"
    for number, folder in enumerate(["date=1", "date=2", "date=__HIVE_DEFAULT_PARTITION__"]):
        write_file(root, folder, "0.parquet", make_rows(number * 100, 3))
    (root / "date=%2").mkdir()
    (root / "date=3").symlink_to(tmp_path / "gone")
    (root / "date=2" / "1.parquet").symlink_to(tmp_path / "gone")
    (root / "README.md").write_text("about")
    (root / "date=1_$folder$").write_text("")

    ended = score("--last=3", input=root)

    assert ended.code == 1, ended
    assert f"Passed over, in no partition: {root}/README.md" in ended.out
    assert "1 committed, 2 NOT published" in ended.out
    assert f"date=2 failed: the link {root}/date=2/1.parquet leads to {tmp_path}/gone" in ended.out
    assert f"date=3 failed: the link {root}/date=3 leads to {tmp_path}/gone" in ended.out
    assert read_scores(tmp_path / "scores")["date"].to_pylist() == ["1"] * 3
    ended = score(input=root)
    assert ended.code == 1, ended
    assert "4 NOT published" in ended.out + ended.err or "date=%252 failed" in ended.err
    assert "date=__HIVE_DEFAULT_PARTITION__ failed: " in ended.err
    assert score("--partitions=date=1", input=root).code == 0


def test_no_rows_at_all_without_any_file(score, tmp_path):
    (tmp_path / "lake" / "date=1").mkdir(parents=True)
    assert_refused(
        score(input=tmp_path / "lake"), "expected rows, got none: the partitions to score in"
    )


def test_no_rows_at_all_in_the_files(score, tmp_path):
    write_file(tmp_path / "lake", "date=1", "0.parquet", make_rows(0, 0))
    ended = score(input=tmp_path / "lake")
    assert ended.code == 0
    assert "The scored partitions have no rows." in ended.out


def test_file_that_changes_while_it_is_scored_fails_its_partition(score, tmp_path, monkeypatch):
    root = write_lake(tmp_path / "lake", days=2, files=1)
    from scoreline.pipelines import score_batch

    real = score_batch.create_table

    def change_then_create(*args):
        pq.write_table(make_rows(0, 7), f"{root}/date=2024-01-02/0.parquet")
        real(*args)

    monkeypatch.setattr(score_batch, "create_table", change_then_create)
    ended = score(input=root)
    assert ended.code == 1
    assert "changed while it was read: expected 300 rows, got 7" in ended.out
    assert read_scores(tmp_path / "scores").num_rows == 300
