"""Partition columns feed inputs and are keys, with the values of the folders."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.fakes import expected_scores, make_rows, read_scores, write_file
from tests.inputs import (
    assert_scores,
    flags_of,
    write_rows,
)
from tests.pipelines.test_bad_input import assert_refused


def test_partition_columns_feed_inputs_and_are_keys(score, tmp_path):
    wanted = {}
    for day, word in ((1, "a"), (12, "b")):
        rows = make_rows(day * 1000, 50)
        write_file(
            tmp_path / "lake", f"n={day:02d}/s={word}", "0.parquet", rows.select(["id", "x"])
        )
        held = rows.set_column(2, "n", pa.array([day] * 50)).set_column(
            3, "s", pa.array([word] * 50)
        )
        wanted |= expected_scores(held)

    ended = score(input=tmp_path / "lake", keys="n,id")

    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", wanted)
    assert read_scores(tmp_path / "scores").schema.names == [
        "id",
        "pair",
        "score",
        "model_digest",
        "n",
        "s",
    ]
    ended = score("--reprocess=all", input=tmp_path / "lake", keys="n,s")
    assert_refused(
        ended, "--keys: expected a column of the files, got only partition columns (n, s)"
    )


@pytest.mark.parametrize("suffix", ["tfrecord", "csv", "jsonl", "parquet"])
def test_partition_columns_feed_inputs_in_every_format(score, tmp_path, suffix):
    """The value is the folder's, also where files have a column of that name with others."""
    tables = [make_rows(first, 50) for first in (0, 50, 100)]
    write_rows(tmp_path / "lake", "n=07", "0", tables[0].drop_columns(["n"]), suffix)
    write_rows(tmp_path / "lake", "n=07", "1", tables[1], suffix)
    write_rows(tmp_path / "lake", "n=12", "0", tables[2], suffix)
    ended = score(*flags_of(suffix), "--keep=s", keys="n,id", input=tmp_path / "lake")
    assert ended.code == 0, ended
    numbers = (7, 7, 12)
    held = [t.set_column(2, "n", pa.array([n] * 50)) for t, n in zip(tables, numbers, strict=True)]
    assert_scores(tmp_path / "scores", expected_scores(pa.concat_tables(held)))
    assert set(read_scores(tmp_path / "scores")["n"].to_pylist()) == {"07", "12"}


def test_partition_value_that_does_not_parse_is_refused_and_named(score, tmp_path):
    for value in ("7", "0x7", "x", "1.5", "9223372036854775808"):
        rows = make_rows(0, 5).drop_columns(["n"])
        write_file(tmp_path / "lake", f"n={value}", "0.parquet", rows)
    ended = score(input=tmp_path / "lake")
    assert_refused(
        ended,
        "partition column 'n' feeds input 'n' as int64 [None]; got n=0x7 (expected a int64, got "
        "'0x7'), n=1.5 (",
        "n=9223372036854775808 (",
        "n=x (",
        "Leave these partitions out with --partitions",
    )
    assert "n=7 (" not in ended.err
    assert score("--partitions=n=7", input=tmp_path / "lake").code == 0


def test_keys_that_are_partition_columns_do_not_count_as_duplicates(score, tmp_path):
    for day in (1, 2):
        write_file(tmp_path / "lake", f"day={day}", "0.parquet", make_rows(0, 40))
    repeated = pa.concat_tables([make_rows(0, 40), make_rows(0, 5)])
    write_file(tmp_path / "lake", "day=3", "0.parquet", repeated)
    ended = score(keys="day,id", input=tmp_path / "lake")
    assert ended.code == 0, ended
    assert "duplicate keys  5 rows repeat the key of another" in ended.out


def test_dead_letters_hold_constants_too(score, tmp_path):
    x = pa.array([None, *[1.0] * 29], pa.float32())
    rows = make_rows(0, 30).set_column(1, "x", x).drop_columns(["s"])
    write_file(tmp_path / "lake", "s=b", "0.parquet", rows)
    ended = score("--max_dead_letter_ratio=0.5", input=tmp_path / "lake")
    assert ended.code == 3, ended
    (path,) = (tmp_path / "scores_dead_letters" / "s=b").glob("*.parquet")
    (letter,) = pa.parquet.read_table(path, partitioning=None).to_pylist()
    assert (letter["id"], letter["s"]) == (0, "b")
