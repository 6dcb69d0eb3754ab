from __future__ import annotations

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from scoreline.lake.elements import UNKNOWN_ROWS
from scoreline.lake.files import shards
from scoreline.lake.files.data_file import DataFile, Footer, whole_file
from scoreline.lake.files.formats import describe_files
from scoreline.lake.files.parquet import read_footer
from scoreline.lake.files.partitions import Partition
from scoreline.lake.files.shards import plan_shards
from scoreline.transforms.read import MatchShards
from tests.fakes import make_rows, write_file

PARTITION = Partition("date=1", (("date", "1"),))
GROUPS = st.lists(st.integers(0, 40), max_size=6)


@given(files=st.lists(GROUPS, max_size=5))
def test_shards_hold_every_row_group_once_in_order_and_no_more_than_they_may(files):
    footers = [
        Footer(f"{i}.parquet", None, tuple(groups), tuple(groups)) for i, groups in enumerate(files)
    ]
    before = shards.SHARD_ROWS
    shards.SHARD_ROWS = 50
    try:
        planned = plan_shards(PARTITION, footers, "run", "")
    finally:
        shards.SHARD_ROWS = before

    rows = [
        (piece.path, row)
        for shard in planned
        for piece in shard.pieces
        for row in range(piece.first_row, piece.first_row + piece.rows)
    ]
    assert rows == [(f.path, row) for f in footers for row in range(f.rows)]
    assert [s.number for s in planned] == list(range(len(planned)))
    assert {s.shards for s in planned} == {len(planned)}
    assert all(s.rows == sum(p.rows for p in s.pieces) for s in planned)
    assert all(s.rows <= 50 or sum(p.row_groups for p in s.pieces) == 1 for s in planned)
    assert len(planned) == 1 or all(s.pieces for s in planned)


def test_wide_rows_make_shards_of_fewer_rows(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 100)
    footer = Footer("a", None, (1, 1, 1), (60, 30, 60))
    assert [s.rows for s in plan_shards(PARTITION, [footer], "run", "")] == [2, 1]


def test_file_that_is_read_whole_is_a_shard_of_its_own():
    files = [DataFile(f"{i}.csv", size, 0) for i, size in enumerate((10, 0, 1 << 40))]
    footers = [whole_file(file, pa.schema([])) for file in files]
    assert {footer.rows for footer in footers} == {UNKNOWN_ROWS}
    planned = plan_shards(PARTITION, footers, "run", "")
    assert [(s.number, s.shards, s.rows) for s in planned] == [
        (0, 3, UNKNOWN_ROWS),
        (1, 3, UNKNOWN_ROWS),
        (2, 3, UNKNOWN_ROWS),
    ]
    assert [[(p.path, p.size_bytes) for p in s.pieces] for s in planned] == [
        [(file.path, file.size_bytes)] for file in files
    ]


def test_footer_tells_row_groups_and_a_damaged_file_tells_its_name(tmp_path):
    path = write_file(tmp_path, "d=1", "0.parquet", make_rows(0, 25), row_group_size=10)
    footer = read_footer(fs.LocalFileSystem(), str(path))
    assert footer.group_rows == (10, 10, 5)
    assert footer.schema.names[0] == "id"
    path.write_bytes(b"PAR1")
    assert read_footer(fs.LocalFileSystem(), str(path)).error.startswith(
        f"file {path} cannot be read: "
    )


@pytest.mark.parametrize("count", [1, 7])
def test_match_shards_gives_each_shard_once(count):
    footers = [Footer(f"{i}.parquet", None, (shards.SHARD_ROWS,), (1,)) for i in range(count)]
    planned = plan_shards(PARTITION, footers, "run", "base")
    assert len(planned) == count
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        found = pipeline | MatchShards(shards=planned) | beam.Map(lambda s: (s.number, s.rows))
        assert_that(found, equal_to([(s.number, s.rows) for s in planned]))


def test_files_of_one_schema_share_it_in_memory(tmp_path):
    rows = make_rows(0, 3)
    for name, table in {"0": rows, "1": rows, "2": rows.drop_columns("x"), "3": rows}.items():
        write_file(tmp_path, "d=1", f"{name}.parquet", table)
    (tmp_path / "d=1" / "4.parquet").write_bytes(b"no Parquet")
    files = [DataFile(str(tmp_path / "d=1" / f"{n}.parquet"), 1, 1) for n in "01234"]
    footers = list(describe_files(fs.LocalFileSystem(), "parquet", files, None))
    assert footers[0].schema is footers[1].schema
    assert [f.schema and f.schema.names for f in footers] == [
        *[rows.schema.names] * 2,
        [n for n in rows.schema.names if n != "x"],
        rows.schema.names,
        None,
    ]
    assert footers[4].error
