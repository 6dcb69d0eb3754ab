"""Columns of other writers as keys, kept columns and inputs: right, or refused before any row."""

from __future__ import annotations

import datetime

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from tests.fakes import make_rows, read_scores, write_file
from tests.lake.files.test_decode import write_encrypted

_ODD = {
    "span": "INTERVAL '3 months'",
    "clock": "TIME '12:00:00'",
    "free": "1::VARIANT",
    "big": "18446744073709551615::UBIGINT",
    "spans": "[INTERVAL '1 day']",
    "tags": "MAP {'a': 1}",
    "both": "{'a': 1}",
}


@pytest.fixture
def odd_lake(tmp_path):
    rows = make_rows(0, 3)
    columns = ", ".join(f"{expression} AS {name}" for name, expression in _ODD.items())
    (tmp_path / "lake/date=1").mkdir(parents=True)
    duckdb.sql(f"COPY (SELECT *, {columns} FROM rows) TO '{tmp_path}/lake/date=1/0.parquet'")
    assert rows.num_rows == 3
    return tmp_path / "lake"


def test_odd_types_are_refused_before_the_first_row_with_advice(score, odd_lake):
    lacks = "a Delta table cannot hold"
    ended = score("--check", f"--keep={','.join(_ODD)}", "--outputs=score", input=odd_lake)
    assert ended.code == 2
    for message in (
        f"--keep: column 'span': {lacks} Parquet's INTERVAL. Write it as text, or as whole",
        f"--keep: column 'clock': {lacks} time64[us]. Write it as text, or as a timestamp, or",
        f"--keep: column 'free': {lacks} Parquet's VARIANT. Write it as JSON text, or its fields",
        f"--keep: column 'big': {lacks} uint64. Write it as int64, decimal(20, 0) or text, or",
        f"--keep: column 'spans': {lacks} Parquet's INTERVAL",
    ):
        assert message in ended.err, ended.err
    assert "'tags'" not in ended.err
    assert "'both'" not in ended.err


def test_keys_that_cannot_be_counted_are_refused_before_the_first_row(score, odd_lake):
    """Regression: all was scored, and then nothing could be committed, every night."""
    ended = score("--check", "--keys=tags,both,span,clock", "--outputs=score", input=odd_lake)
    assert ended.code == 2
    wanted = "expected a key of numbers, text, bytes, bool, dates or timestamps, got"
    for message in (
        f"--keys: column 'tags': {wanted} map<string, int32>, whose values cannot be",
        f"--keys: column 'both': {wanted} struct<a: int32>, whose values cannot be counted. Name",
        "--keys: column 'span': a Delta table cannot hold Parquet's INTERVAL",
        "--keys: column 'clock': a Delta table cannot hold time64[us]",
    ):
        assert message in ended.err, ended.err


def test_odd_types_as_inputs_are_refused_before_the_first_row(score, odd_lake):
    ended = score(
        "--check", "--columns=x=span", "--columns=n=big", "--columns=s=free", input=odd_lake
    )
    assert ended.code == 2
    assert (
        "wants input 'x' as float32 [None]; the table has column 'span' as Parquet's" in ended.err
    )
    assert "wants input 'n' as int64 [None]; the table has column 'big' as uint64" in ended.err
    assert "wants input 's' as string [None]; the table has column 'free' as Parquet's" in ended.err


_YEARS = ["0001-01-01", "9999-12-31T23:59:59", "2024-02-29T00:00:00.000001"]


@pytest.mark.parametrize("layout", ["hive", "delta"])
def test_one_day_of_each_kind_fails_by_name_and_the_others_are_published(score, tmp_path, layout):
    """Each column is what another writer makes; each bad day costs itself alone."""
    times = pa.array(map(datetime.datetime.fromisoformat, _YEARS), pa.timestamp("us"))
    uuids = pa.array([b"a" * 16, b"b" * 16, b"a" * 16], pa.uuid())
    rows = make_rows(0, 3).drop_columns(["id", "unread"])
    good = rows.append_column("id", uuids).append_column("at", times)
    good = good.append_column("note", pa.array(["one", "two", None]))
    fine = good.set_column(4, "at", pa.array([1_000, 1_001, 2_000], pa.timestamp("ns")))
    not_text = pa.array([b"ok", b"\xff", b""], pa.binary()).view(pa.string())
    bad = {"03": fine, "04": good.set_column(5, "note", not_text), "05": good}
    lake = tmp_path / "lake"
    options = {
        "use_deprecated_int96_timestamps": True,
        "use_dictionary": False,
        "column_encoding": {"note": "DELTA_LENGTH_BYTE_ARRAY", "s": "DELTA_BYTE_ARRAY"},
    }
    if layout == "delta":
        for day in ("01", "03", "04", "05"):
            plain = good.set_column(3, "id", uuids.cast(pa.binary(16)).cast(pa.binary()))
            dated = plain.append_column("date", pa.array([day] * 3))
            write_deltalake(str(lake), dated, partition_by=["date"], mode="append")
            (path,) = (lake / f"date={day}").glob("*.parquet")
            path.unlink()
            _write_day(path, bad.get(day, good), day, options)
    else:
        for day in ("01", "03", "04", "05"):
            path = write_file(lake, f"date={day}", "0.parquet", good)
            _write_day(path, bad.get(day, good), day, options)

    ended = score("--keep=at,note", "--outputs=score", input=lake)

    assert ended.code == 1, ended
    assert "1 committed, 3 NOT published" in ended.out
    for day, message in {
        "03": "column 'at': expected times in whole microseconds",
        "04": "column 'note': expected UTF-8 text, got other bytes",
        "05": "column 'note': it is encrypted, and Scoreline has no keys",
    }.items():
        assert f"date={day} failed: file {lake}/date={day}/" in ended.out
        assert f".parquet cannot be read: {message}" in ended.out
    scores = read_scores(tmp_path / "scores")
    assert set(scores["date"].to_pylist()) == {"01"}
    assert scores["id"].to_pylist() == [b"a" * 16, b"b" * 16, b"a" * 16]
    assert scores["at"].cast(pa.timestamp("us")).to_pylist() == times.to_pylist()
    assert scores["note"].to_pylist() == ["one", "two", None]
    assert "1 row has the key of another row" in ended.out or "duplicate" in ended.out


def _write_day(path, rows, day, options):
    if day == "05":
        write_encrypted(path, rows, column_keys={"k": ["note"]}, plaintext_footer=True)
    else:
        pq.write_table(rows, path, **options)


def test_old_timestamps_feed_inputs_with_their_own_years(score, tmp_path):
    """Regression: the year 9999 was scored as 1816."""
    times = pa.array(map(datetime.datetime.fromisoformat, _YEARS), pa.timestamp("us"))
    rows = make_rows(0, 3).append_column("at", times)
    options = {"use_deprecated_int96_timestamps": True}
    write_file(tmp_path / "lake", "date=1", "0.parquet", rows, **options)
    ended = score("--columns=n=epoch_s(at)", "--outputs=score", input=tmp_path / "lake")
    assert ended.code == 0, ended
    seconds = [-62135596800, 253402300799, 1709164800]
    found = read_scores(tmp_path / "scores")["score"].to_pylist()
    assert found == pytest.approx([3.0 * second for second in seconds], rel=1e-6)
