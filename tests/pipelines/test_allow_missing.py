"""Columns that some or all files lack are filled with the values that --allow_missing gives."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tests.fakes import expected_scores, make_rows, read_scores, write_file, write_lake
from tests.inputs import (
    assert_scores,
    by_id,
    flags_of,
    write_rows,
)
from tests.pipelines.test_bad_input import assert_refused


def test_column_that_only_some_partitions_have_is_filled_when_allowed(score, tmp_path):
    root = write_lake(tmp_path / "lake", days=2, files=1)
    rows = make_rows(1000, 100)
    narrow = rows.set_column(2, "n", rows["n"].cast(pa.int16()))
    write_file(tmp_path / "lake", "date=2024-01-03", "0.parquet", narrow.drop_columns(["x"]))
    write_file(tmp_path / "lake", "date=2024-01-03", "1.parquet", make_rows(2000, 100))
    ended = score(input=root)
    assert_refused(
        ended,
        "the table has no column 'x'.",
        "(in date=2024-01-03)",
        "Others have it: give a value for where it is missing with --allow_missing x=VALUE.",
    )

    ended = score("--allow_missing=x=0.5", "--keep=x", input=root)

    assert ended.code == 0, ended
    scores = read_scores(tmp_path / "scores")
    assert str(scores.schema.field("x").type) == "float"
    kept = by_id(scores, "x")
    assert {kept[i] for i in range(1000, 1100)} == {0.5}
    half = rows.set_column(1, "x", pa.array([0.5] * 100, pa.float32()))
    got = by_id(scores)
    wanted = expected_scores(pa.concat_tables([half, make_rows(2000, 100), make_rows(0, 300)]))
    np.testing.assert_allclose([got[i] for i in wanted], list(wanted.values()), rtol=1e-6)
    # Another value is other work, but only for runs that use the option.
    assert (
        "3 committed" in score("--reprocess=all", "--allow_missing=x=1", "--keep=x", input=root).out
    )


def test_column_that_no_partition_has_is_filled_as_the_input_wants_it(score, tmp_path):
    write_file(tmp_path / "lake", "date=1", "0.parquet", make_rows(0, 9).drop_columns(["s", "n"]))
    ended = score("--allow_missing=s=a=b", "--allow_missing=n=2", input=tmp_path / "lake")
    assert ended.code == 0, ended
    rows = make_rows(0, 9)
    rows = rows.set_column(2, "n", pa.array([2] * 9)).set_column(3, "s", pa.array(["a=b"] * 9))
    assert_scores(tmp_path / "scores", expected_scores(rows))


def test_csv_file_that_lacks_a_column_is_filled(score, tmp_path):
    rows = make_rows(0, 20)
    write_rows(tmp_path / "lake", "date=1", "0", rows, "csv")
    write_rows(tmp_path / "lake", "date=2", "0", make_rows(20, 20).drop_columns(["n"]), "csv")
    assert_refused(score(*flags_of("csv"), input=tmp_path / "lake"), "(in date=2)")
    ended = score(*flags_of("csv"), "--allow_missing=n=4", input=tmp_path / "lake")
    assert ended.code == 0, ended
    other = make_rows(20, 20).set_column(2, "n", pa.array([4] * 20))
    assert_scores(tmp_path / "scores", expected_scores(pa.concat_tables([rows, other])))


def test_wrong_allow_missing_is_refused(score):
    ended = score(
        "--allow_missing=date=1",
        "--allow_missing=other=1",
        "--allow_missing=n=one",
        "--allow_missing=gone=1",
        "--keep=gone",
    )
    assert_refused(
        ended,
        "--allow_missing date: it is a partition column, which is never missing",
        "--allow_missing other: no input, key or kept column reads a column 'other'",
        "--allow_missing n=one: expected a int64, got 'one'",
        "--allow_missing gone: no partition has the column and no input takes it",
    )
    assert_refused(score("--allow_missing=n"), "--allow_missing: expected C=VALUE, got 'n'")


def test_text_column_that_is_missing_in_one_file_of_a_partition(score, tmp_path):
    rows = [make_rows(0, 30), make_rows(30, 30).drop_columns(["s"]), make_rows(60, 30)]
    for number, table in enumerate(rows):
        write_file(tmp_path / "lake", "date=1", f"{number}.parquet", table)
    ended = score("--allow_missing=s=b", "--keep=s", input=tmp_path / "lake")
    assert ended.code == 0, ended
    filled = make_rows(30, 30).set_column(3, "s", pa.array(["b"] * 30))
    whole = pa.concat_tables([rows[0], filled, rows[2]])
    assert_scores(tmp_path / "scores", expected_scores(whole))
    assert by_id(read_scores(tmp_path / "scores"), "s") == by_id(whole, "s")
