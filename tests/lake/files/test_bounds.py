"""Small files that decode to huge data: bounded batches, or an error with advice."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from scoreline.lake.elements import UNKNOWN_ROWS, Piece, Shard
from scoreline.lake.files.bounds import decoded_bytes
from scoreline.lake.files.data_file import CorruptFile, DataFile, Limits, ReadSpec
from scoreline.lake.files.formats import FORMATS, describe_files
from scoreline.lake.files.parquet import read_record_batches
from scoreline.lake.files.tfrecord import masked_crc
from tests.fakes import make_rows, write_file
from tests.inputs import write_bytes
from tests.processes import run_script

LOCAL = fs.LocalFileSystem()
MB = 1 << 20


def shard_of(path, rows=UNKNOWN_ROWS):
    groups = pq.read_metadata(path).num_row_groups if rows != UNKNOWN_ROWS else 1
    piece = Piece(str(path), 0, groups, 0, rows, path.stat().st_size)
    return Shard("date=1", "a" * 15, "", 0, 1, [piece], rows)


def read(path, columns, limits, batch_rows=65_536, **options):
    rows = pq.read_metadata(path).num_rows
    spec = ReadSpec(columns, batch_rows, limits=limits, **options)
    return list(read_record_batches(LOCAL, shard_of(path, rows), spec))


def repeated(value, rows):
    indices = pa.array(np.zeros(rows, np.int32))
    return pa.DictionaryArray.from_arrays(indices, [value]).cast(pa.string())


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """A file of 2 KB with 1 GB of text: a value of 1 MB, repeated 1,000 times."""
    path = tmp_path_factory.mktemp("bomb") / "0.parquet"
    table = pa.table({"id": np.arange(1000), "s": repeated("x" * MB, 1000)})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 5000
    return path


@pytest.mark.parametrize("dictionary", [[], ["s"]])
def test_batches_of_a_tiny_file_with_a_gigabyte_of_text_are_bounded(tmp_path, bomb, dictionary):
    script = f"""
import pyarrow as pa
from pathlib import Path
from tests.lake.files.test_bounds import shard_of, read_record_batches, LOCAL
from scoreline.lake.files.bounds import decoded_bytes
from scoreline.lake.files.data_file import Limits, ReadSpec
limits = Limits(2 << 20, 16 << 20)
spec = ReadSpec(["id", "s"], 65536, dictionary_columns={dictionary}, limits=limits)
next_id = 0
for batch in read_record_batches(LOCAL, shard_of(Path({str(bomb)!r}), 1000), spec):
    assert decoded_bytes(batch, 0) <= 16 << 20, batch.num_rows
    assert batch["id"].to_pylist() == list(range(next_id, next_id + batch.num_rows))
    next_id += batch.num_rows
assert next_id == 1000
print(pa.default_memory_pool().max_memory() >> 20)
"""
    ended = run_script(tmp_path, script)
    assert ended.code == 0, ended.err
    assert int(ended.out) < 100


@pytest.mark.parametrize("dictionary", [[], ["s"]])
def test_a_value_that_is_too_large_names_file_row_group_column_row_and_the_way_out(
    tmp_path, dictionary
):
    texts = ["small"] * 25
    texts[17] = "x" * 2000
    table = pa.table({"id": range(25), "s": texts})
    path = write_file(tmp_path, "d=1", "0.parquet", table, row_group_size=10)
    with pytest.raises(CorruptFile) as e:
        read(path, ["id", "s"], Limits(1000, 10_000), dictionary_columns=dictionary)
    assert str(e.value) == (
        f"file {path}, row group 1, column 's': the value of row 7 takes 2000 bytes; expected at "
        "most 1000. If the file is sound, raise --max_value_bytes, or leave the column out"
    )
    assert sum(b.num_rows for b in read(path, ["id"], Limits(1000, 10_000))) == 25


def test_lists_that_are_too_large_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "0.parquet"
    table = pa.table({"id": [1], "l": pa.array([np.zeros(50 * MB, np.int64)])})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 2000
    del table
    before = pa.total_allocated_bytes()
    wanted = r"row group 0, column 'l\.list\.element': .* in one row; .* raise --max_batch_bytes"
    with pytest.raises(CorruptFile, match=wanted):
        read(path, ["id", "l"], Limits())
    assert pa.total_allocated_bytes() - before < MB
    with pytest.raises(CorruptFile, match=r"column 'l': the value of row 0 takes 425984004 "):
        read(path, ["id", "l"], Limits(64 * MB, 500 * MB))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rows_stay_whole_and_in_order_whatever_their_sizes(tmp_path_factory, data):
    sizes = st.lists(st.sampled_from([0, 1, 10, 500, 3000]), min_size=1, max_size=60)
    texts = [f"{i:04d}" + "x" * size for i, size in enumerate(data.draw(sizes))]
    if data.draw(st.booleans()):
        texts = [data.draw(st.sampled_from(texts)) for _ in texts]
    columns = {
        "id": pa.array(range(len(texts))),
        "s": pa.array(texts),
        "l": pa.array([[text, None] * (i % 3) for i, text in enumerate(texts)]),
        "n": pa.array([list(map(float, range(len(text)))) for text in texts]),
        "t": pa.array([{"a": text, "b": [text]} for text in texts]),
    }
    path = tmp_path_factory.mktemp("rows") / "0.parquet"
    pq.write_table(
        pa.table(columns),
        path,
        row_group_size=data.draw(st.integers(1, 60)),
        use_dictionary=data.draw(st.booleans()),
        data_page_size=data.draw(st.sampled_from([100, MB])),
    )
    names = data.draw(st.lists(st.sampled_from(sorted(columns)), min_size=1, unique=True))
    dictionary = ["s"] if data.draw(st.booleans()) and "s" in names else []
    limit = data.draw(st.sampled_from([64_000, 200_000, 256 * MB]))
    batches = read(
        path,
        names,
        Limits(64_000, limit),
        data.draw(st.integers(1, 80)),
        dictionary_columns=dictionary,
    )
    for batch in batches:
        assert batch.num_rows == 1 or decoded_bytes(batch, 0) <= limit
    got = {name: [v for b in batches for v in b[name].to_pylist()] for name in names}
    assert got == {name: columns[name].to_pylist() for name in names}


def test_a_record_length_of_a_terabyte_is_not_allocated(tmp_path):
    head = struct.pack("<Q", 1 << 40)
    path = write_bytes(
        tmp_path / "0.tfrecord.gz", head + struct.pack("<I", masked_crc(head)) + bytes(1000)
    )
    schema = pa.schema([("id", pa.int64())])
    (footer,) = describe_files(
        LOCAL, "tfrecord", [DataFile(str(path), path.stat().st_size, 0)], schema
    )
    assert not footer.error  # the reader applies its own limit
    spec = ReadSpec(["id"], 10, schema=schema)
    with pytest.raises(CorruptFile) as e:
        list(FORMATS["tfrecord"].read(LOCAL, shard_of(path), spec))
    assert str(e.value) == (
        f"file {path} cannot be read: the record at byte 0 takes 1099511627776 bytes; expected at "
        "most 67108864. If the file is sound, raise --max_value_bytes"
    )


def test_a_line_that_unpacks_to_very_much_is_refused(tmp_path):
    path = tmp_path / "0.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"s": "a"}\n{"s": "b"}\n{"s": "')
        for _ in range(80):
            file.write(b"x" * MB)
    schema = pa.schema([("s", pa.string())])
    batches = FORMATS["jsonl"].read(LOCAL, shard_of(path), ReadSpec(["s"], 10, schema=schema))
    with pytest.raises(
        CorruptFile, match=r"0\.jsonl\.gz cannot be read: line 3 takes more than 67108864 bytes"
    ):
        list(batches)


def test_short_lines_of_many_absent_columns_make_small_batches(tmp_path):
    path = write_bytes(tmp_path / "0.jsonl", b"{}\n" * 10_000 + b'{"c7": 7}')
    schema = pa.schema([(f"c{i}", pa.int64()) for i in range(100)])
    limits = Limits(1000, 100_000)
    spec = ReadSpec(schema.names, 65_536, schema=schema, limits=limits)
    batches = list(FORMATS["jsonl"].read(LOCAL, shard_of(path), spec))
    assert sum(b.num_rows for b in batches) == 10_001
    assert batches[-1]["c7"].to_pylist()[-1] == 7
    assert max(b.nbytes for b in batches) <= 100_000


def test_a_large_field_of_csv_names_column_and_row(tmp_path):
    path = write_bytes(tmp_path / "0.csv", b"s\na\nb\n" + b"x" * 600)
    spec = ReadSpec(["s"], 9, schema=pa.schema([("s", pa.string())]), limits=Limits(500, 5000))
    wanted = r"0\.csv, column 's': the value of row 2 takes 600 bytes; expected at most 500\. If"
    with pytest.raises(CorruptFile, match=wanted):
        list(FORMATS["csv"].read(LOCAL, shard_of(path), spec))


def test_a_csv_row_larger_than_every_block_is_reported(tmp_path):
    path = write_bytes(tmp_path / "0.csv.gz", b"s\na\n" + b"x" * (9 * MB) + b"\nb\n")
    spec = ReadSpec(["s"], 9, schema=pa.schema([("s", pa.string())]))
    with pytest.raises(CorruptFile, match="row 3: it takes more than 4194304 bytes"):
        list(FORMATS["csv"].read(LOCAL, shard_of(path), spec))


def test_the_options_bound_what_a_job_decodes(tmp_path, score, monkeypatch):
    from scoreline.transforms import score as step

    rows: list[int] = []
    real = step.score_batch

    def count(batch, *args):
        rows.append(batch.num_rows)
        return real(batch, *args)

    monkeypatch.setattr(step, "score_batch", count)
    for day in (1, 2):
        table = make_rows(day * 100, 100)
        texts = pa.array([f"{i:500d}" if day == 1 else "a" for i in range(100)])
        write_file(
            tmp_path / "lake", f"date=2024-01-0{day}", "0.parquet", table.set_column(3, "s", texts)
        )
    lake = str(tmp_path / "lake")
    assert score(input=lake, output=tmp_path / "one").code == 0
    assert max(rows) == 100
    rows.clear()
    assert score("--max_value_bytes=999", "--max_batch_bytes=9999", input=lake).code == 0
    assert sum(rows) == 200
    assert max(count for count in rows if count < 100) < 20  # batches of rows of 500 bytes
    ended = score("--max_value_bytes=99", input=lake, output=tmp_path / "two")
    assert ended.code == 1
    assert "date=2024-01-01 failed: " in ended.out
    assert "column 's': the value of row 0 takes 500 bytes; expected at most 99. " in ended.out
    assert "1 committed, 1 NOT published" in ended.out


def test_limits_that_contradict_each_other_are_refused(score):
    ended = score("--max_value_bytes=1000", "--max_batch_bytes=999")
    assert ended.code == 2
    assert "--max_value_bytes: expected at most --max_batch_bytes, which is 999" in ended.err
