from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from scoreline.lake.elements import BatchKey, Piece, Shard
from scoreline.lake.files.data_file import ReadSpec
from scoreline.lake.files.parquet import CorruptFile, _Waiting, read_record_batches
from scoreline.lake.table.shard_writer import ScoresWriter
from scoreline.lake.table.staged_file import StagedFile
from tests.fakes import make_rows, write_file

LOCAL = fs.LocalFileSystem()
SCHEMA = pa.schema([("id", pa.int64()), ("s", pa.string())])


def shard_of(*pieces):
    return Shard("date=1", "a" * 15, "", 2, 3, list(pieces), sum(p.rows for p in pieces))


@settings(max_examples=25, deadline=None)
@given(batch_rows=st.integers(1, 70), dictionary=st.booleans())
def test_batches_hold_the_shards_rows_in_order(tmp_path_factory, batch_rows, dictionary):
    root = tmp_path_factory.mktemp("rows")
    one = write_file(root, "d=1", "0.parquet", make_rows(0, 50), row_group_size=20)
    two = write_file(root, "d=1", "1.parquet", make_rows(50, 7))
    shard = shard_of(Piece(str(one), 1, 2, 20, 30), Piece(str(two), 0, 1, 0, 7))
    batches = list(
        read_record_batches(
            LOCAL,
            shard,
            ReadSpec(["s", "id"], batch_rows, dictionary_columns=["s"] if dictionary else []),
        )
    )
    assert all(0 < batch.num_rows <= batch_rows for batch in batches)
    assert all(batch.schema.names == ["s", "id"] for batch in batches)
    assert [i for batch in batches for i in batch["id"].to_pylist()] == list(range(20, 57))
    wanted = pa.concat_tables([make_rows(0, 50), make_rows(50, 7)])["s"].to_pylist()[20:]
    assert [s for batch in batches for s in batch["s"].to_pylist()] == wanted
    assert pa.types.is_dictionary(batches[0]["s"].type) == dictionary


def test_small_files_share_a_batch(tmp_path):
    pieces = [
        Piece(str(write_file(tmp_path, "d=1", f"{i}.parquet", make_rows(i, 1))), 0, 1, 0, 1)
        for i in range(10)
    ]
    spec = ReadSpec(["s"], 6, dictionary_columns=["s"])
    batches = list(read_record_batches(LOCAL, shard_of(*pieces), spec))
    assert [batch.num_rows for batch in batches] == [6, 4]


def test_joining_tiny_files_compares_each_schema_once():
    """Regression: a file was compared with every waiting batch, which is quadratic in files."""
    compared = []

    class CountingSchema:
        def equals(self, other):
            compared.append(other)
            return True

    batch = SimpleNamespace(num_rows=1, schema=CountingSchema(), columns=[], nbytes=0)
    waiting = _Waiting(ReadSpec([], 1000))
    for _ in range(1000):
        assert waiting.add(batch)
    assert len(compared) == 999
    assert not waiting.add(batch)


def test_missing_file_names_itself():
    shard = shard_of(Piece("/no/such.parquet", 0, 1, 0, 1))
    with pytest.raises(CorruptFile, match=r"file /no/such\.parquet cannot be read"):
        list(read_record_batches(LOCAL, shard, ReadSpec(["id"], 10)))


def make_writer(tmp_path, integer_key="id"):
    file = StagedFile(LOCAL, str(tmp_path), "date=1", 2, "a" * 15, SCHEMA, statistics=["id", "s"])
    return ScoresWriter(file, shard_of(), integer_key)


def write_ids(writer, *batches):
    for number, ids in enumerate(batches):
        batch = pa.RecordBatch.from_arrays(
            [pa.array(ids), pa.array(["x"] * len(ids))], schema=SCHEMA
        )
        writer.write(BatchKey(shard_of(), number, 0, len(ids), last=False), batch)
    return writer.close()


def test_receipt_describes_the_file_that_is_there(tmp_path):
    receipt = write_ids(make_writer(tmp_path), [3, 5], [7])
    path = tmp_path / receipt.path
    assert path.stat().st_size == receipt.size_bytes
    assert path.name == f"part-00002-{'a' * 15}-{receipt.checksum}.parquet"
    assert pq.read_table(path, partitioning=None)["id"].to_pylist() == [3, 5, 7]
    assert (receipt.rows_in, receipt.rows_scored) == (3, 3)
    assert '"minValues": {"id": 3, "s": "x"}, "maxValues": {"id": 7, "s": "x"}' in receipt.stats
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_same_rows_staged_twice_make_the_same_file(tmp_path):
    one, two = (write_ids(make_writer(tmp_path), [1, 2]) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("batches", "increase"),
    [
        ([[1, 2], [3]], True),
        ([[1, 2], [2]], False),
        ([[2, 1]], False),
        ([[1, None]], False),
        ([[]], True),
    ],
)
def test_writer_knows_whether_keys_increase(tmp_path, batches, increase):
    batches = [pa.array(ids, pa.int64()) for ids in batches]
    assert write_ids(make_writer(tmp_path), *batches).keys_increase is increase


def test_lost_or_reordered_batch_is_never_passed_over(tmp_path):
    writer = make_writer(tmp_path)
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array(["x"])], schema=SCHEMA)
    with pytest.raises(ValueError, match=r"Expected batch 0 of shard 2 of date=1, got batch 1"):
        writer.write(BatchKey(shard_of(), 1, 0, 1, last=False), batch)
    writer.abandon()
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_dictionaries_that_change_between_batches_are_written_right(tmp_path):
    file = StagedFile(LOCAL, str(tmp_path), "date=1", 2, "a" * 15, SCHEMA)
    texts = [["a", "b"], ["c", None], ["b", "a"]]
    for text in [*texts[:2], None, texts[2]]:
        if text is None:
            file._flush()
            continue
        column = pa.array(text, pa.string()).dictionary_encode()
        file.write(pa.RecordBatch.from_arrays([pa.array([1, 2]), column], ["id", "s"]))
    staged = file.close()
    read = pq.read_table(tmp_path / staged.path, partitioning=None)
    assert read["s"].to_pylist() == ["a", "b", "c", None, "b", "a"]


def test_cast_that_would_lose_is_refused(tmp_path):
    file = StagedFile(LOCAL, str(tmp_path), "date=1", 2, "a" * 15, pa.schema([("id", pa.int8())]))
    file.write(pa.RecordBatch.from_arrays([pa.array([1000])], ["id"]))
    with pytest.raises(pa.ArrowInvalid):
        file.close()
    file.abandon()
