"""Parquet files of other writers: encryption, encodings, lists with nulls, old timestamps."""

from __future__ import annotations

import base64
import datetime
import subprocess
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from pyarrow.parquet import encryption

from scoreline.lake.elements import Piece, Shard
from scoreline.lake.files.data_file import CorruptFile, Limits, ReadSpec
from scoreline.lake.files.parquet import read_footer, read_record_batches

LOCAL = fs.LocalFileSystem()
ROWS = 500


def read(path, columns=None, batch_rows=200, **options):
    """Return all rows of a file as the product reads them, in the footer's types."""
    footer = read_footer(LOCAL, str(path))
    assert not footer.error, footer.error
    piece = Piece(str(path), 0, len(footer.group_rows), 0, footer.rows)
    shard = Shard("date=1", "a" * 15, "", 0, 1, [piece], footer.rows)
    spec = ReadSpec(columns or footer.schema.names, batch_rows, **options)
    batches = list(read_record_batches(LOCAL, shard, spec))
    assert all(0 < batch.num_rows <= batch_rows for batch in batches)
    return pa.concat_tables(
        [pa.Table.from_batches([b]) for b in batches], promote_options="default"
    )


class _Kms(encryption.KmsClient):
    """Keeps keys under no protection, for tests."""

    def __init__(self, config):
        super().__init__()

    def wrap_key(self, key_bytes, master_key_identifier):
        return base64.b64encode(key_bytes).decode()

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return base64.b64decode(wrapped_key)


def write_encrypted(path, table, **options):
    """Write a file whose columns, or footer too, are encrypted."""
    factory = encryption.CryptoFactory(_Kms)
    configuration = encryption.EncryptionConfiguration(footer_key="footer", **options)
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), configuration)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"column_keys": {"k": ["secret"]}, "plaintext_footer": True}, "column 'secret': "),
        ({"column_keys": {"k": ["l.list.element"]}, "plaintext_footer": True}, "column 'l.list.e"),
        ({"column_keys": {"k": ["secret"]}, "plaintext_footer": False}, ""),
        ({"uniform_encryption": True, "plaintext_footer": True}, ""),
    ],
    ids=["column", "list column", "footer", "uniform"],
)
def test_an_encrypted_file_is_named_before_any_row_instead_of_ending_the_process(
    tmp_path, options, names
):
    """Regression: pyarrow aborts the process when it is asked for facts about such a column."""
    path = tmp_path / "0.parquet"
    write_encrypted(path, pa.table({"id": [1], "secret": ["x"], "l": [["y"]]}), **options)
    error = read_footer(LOCAL, str(path)).error
    assert error.startswith(f"file {path} cannot be read: {names}")
    assert "encrypted, and Scoreline has no keys: expected a file without encryption" in error


def test_a_footer_that_contradicts_itself_is_an_error_instead_of_the_end_of_the_process(tmp_path):
    """Regression: pyarrow aborts on size statistics that do not fit the schema's nesting."""
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table({"id": [1, 2], "s": ["a" * 300, "b"]}), path, store_schema=False)
    data = path.read_bytes()
    optional = b"\x15\x04\x25\x02\x18\x02id"  # INT64, OPTIONAL, named id
    assert data.count(optional) == 1
    path.write_bytes(data.replace(optional, b"\x15\x04\x25\x00\x18\x02id"))
    # Its own process, because the regression would end this one.
    chunk = "import sys, pyarrow.parquet as q; q.read_metadata(sys.argv[1]).row_group(0).column(0)"
    assert subprocess.run([sys.executable, "-c", chunk, path], capture_output=True).returncode < 0
    with pytest.raises(CorruptFile, match="cannot be read: Definition level histogram size"):
        read(path, limits=Limits(100, 1000))


def _duck(query):
    def write(path):
        duckdb.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet, PARQUET_VERSION v2)")

    return write


_TEXTS = pa.table({"v": [f"value {i}" if i % 9 else None for i in range(ROWS)]})
_MIXED = pa.table({"v": [f"{i % 7}" for i in range(ROWS)] + [f"{i:0>90}" for i in range(ROWS)]})


def _arrow(table, **options):
    return lambda path: pq.write_table(table, path, **options)


def _encoded(table, encoding, **options):
    return _arrow(table, use_dictionary=False, column_encoding={"v": encoding}, **options)


@pytest.mark.parametrize("dictionary", [[], ["v"]], ids=["kept", "input"])
@pytest.mark.parametrize(
    ("write", "encodings"),
    [
        (_duck(f"SELECT 'value ' || i AS v FROM range({ROWS}) t(i)"), {"DELTA_LENGTH_BYTE_ARRAY"}),
        (_duck(f"SELECT 'v' || (i % 3) AS v FROM range({ROWS}) t(i)"), {"RLE_DICTIONARY"}),
        (_encoded(_TEXTS, "DELTA_LENGTH_BYTE_ARRAY"), {"DELTA_LENGTH_BYTE_ARRAY", "RLE"}),
        (_encoded(_TEXTS, "DELTA_BYTE_ARRAY"), {"DELTA_BYTE_ARRAY", "RLE"}),
        (_encoded(_TEXTS, "DELTA_BYTE_ARRAY", row_group_size=70), {"DELTA_BYTE_ARRAY", "RLE"}),
        (_encoded(_TEXTS, "PLAIN", data_page_version="2.0"), {"PLAIN", "RLE"}),
        (
            _arrow(_MIXED, dictionary_pagesize_limit=200, data_page_size=500),
            {"PLAIN", "RLE", "RLE_DICTIONARY"},
        ),
    ],
    ids=[
        *("duckdb-v2", "duckdb-dictionary", "delta-length", "delta", "delta-groups", "plain"),
        "mixed",
    ],
)
@pytest.mark.parametrize("limits", [Limits(), Limits(1000, 20_000)], ids=["", "small-batches"])
def test_texts_of_every_encoding_are_read(tmp_path, write, encodings, dictionary, limits):
    path = tmp_path / "0.parquet"
    write(path)
    assert encodings <= {*pq.read_metadata(path).row_group(0).column(0).encodings}
    rows = read(path, dictionary_columns=dictionary, limits=limits)
    assert rows["v"].to_pylist() == pq.read_table(path)["v"].to_pylist()


def test_one_file_may_have_a_dictionary_in_one_row_group_and_none_in_the_next(tmp_path):
    path = tmp_path / "0.parquet"
    encoded, plain = (pa.table({"v": [f"{i}{c}" for i in range(90)]}) for c in "ab")
    pq.write_table(encoded, tmp_path / "a.parquet")
    _encoded(plain, "DELTA_BYTE_ARRAY")(tmp_path / "b.parquet")
    parts = [(tmp_path / f"{name}.parquet") for name in "ab"]
    shard = Shard("d=1", "a" * 15, "", 0, 1, [Piece(str(p), 0, 1, 0, 90) for p in parts], 180)
    spec = ReadSpec(["v"], 70, dictionary_columns=["v"])
    batches = list(read_record_batches(LOCAL, shard, spec))
    found = [value for batch in batches for value in batch["v"].to_pylist()]
    assert found == [*encoded["v"].to_pylist(), *plain["v"].to_pylist()]
    assert not path.exists()


@pytest.mark.parametrize(
    ("encoding", "values"),
    [
        ("BYTE_STREAM_SPLIT", pa.array(np.arange(ROWS) / 7, pa.float32())),
        ("BYTE_STREAM_SPLIT", pa.array(np.arange(ROWS), pa.int32())),
        ("BYTE_STREAM_SPLIT", pa.array([i.to_bytes(4) for i in range(ROWS)], pa.binary(4))),
        ("DELTA_BINARY_PACKED", pa.array([i if i % 3 else None for i in range(ROWS)], pa.int64())),
        ("DELTA_BYTE_ARRAY", pa.array([i.to_bytes(16) for i in range(ROWS)], pa.binary(16))),
    ],
    ids=["split-float", "split-int", "split-bytes", "delta-int", "delta-bytes"],
)
def test_numbers_and_bytes_of_every_encoding_are_read(tmp_path, encoding, values):
    path = tmp_path / "0.parquet"
    _encoded(pa.table({"v": values}), encoding)(path)
    assert read(path)["v"].to_pylist() == values.to_pylist()


def test_texts_in_lists_and_structs_are_read_in_every_encoding(tmp_path):
    path = tmp_path / "0.parquet"
    table = pa.table(
        {
            "l": [[f"a{i}", None] if i % 4 else None for i in range(ROWS)],
            "s": [{"t": f"b{i}", "n": i} for i in range(ROWS)],
            "m": pa.array([[(f"k{i}", "v")] for i in range(ROWS)], pa.map_("string", "string")),
        }
    )
    encodings = {"l.list.element": "DELTA_BYTE_ARRAY", "s.t": "DELTA_LENGTH_BYTE_ARRAY"}
    encodings["m.key_value.key"] = "DELTA_LENGTH_BYTE_ARRAY"
    pq.write_table(table, path, use_dictionary=False, column_encoding=encodings)
    assert read(path, limits=Limits(10_000, 2_000_000)).to_pylist() == table.to_pylist()


_PAIRS = pa.list_(pa.float32(), 2)
_NULL_LISTS = {
    "null-rows": (_PAIRS, [[1.0, 2.0], None, [3.0, None]]),
    "all-null": (_PAIRS, [None, None, None]),
    "in-lists": (pa.list_(_PAIRS), [[[1.0, 2.0], None], [], None]),
    "two-dimensions": (pa.list_(_PAIRS, 1), [[[1.0, 2.0]], None, [None]]),
    "in-structs": (pa.struct({"q": _PAIRS}), [{"q": [1.0, 2.0]}, {"q": None}, {"q": [3.0, 4.0]}]),
    "of-texts": (pa.list_(pa.string(), 2), [["a", "b"], None, ["c", None]]),
}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(("kind", "values"), _NULL_LISTS.values(), ids=_NULL_LISTS)
def test_fixed_size_lists_with_nulls_are_read(tmp_path, kind, values, rows):
    """Regression: Arrow refuses them, and names no column."""
    path = tmp_path / "0.parquet"
    words = pa.array(["a", "b", None]).dictionary_encode()
    pq.write_table(pa.table({"id": range(3), "c": words, "v": pa.array(values, kind)}), path)
    found = read(path, batch_rows=rows)
    assert found["v"].to_pylist() == values
    assert found["v"].type == read_footer(LOCAL, str(path)).schema.field("v").type
    assert found["c"].to_pylist() == ["a", "b", None]


def test_a_list_of_another_length_than_its_type_names_the_column(tmp_path):
    path = tmp_path / "0.parquet"
    table = pa.table({"embedding": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2))})
    pq.write_table(table, path)
    arrow_schema = pq.read_metadata(path).metadata[b"ARROW:schema"]
    wrong = pa.table({"embedding": [[1.0, 2.0], [3.0]]})
    with pq.ParquetWriter(path, wrong.schema, store_schema=False) as writer:
        writer.write_table(wrong)
        writer.add_key_value_metadata({"ARROW:schema": arrow_schema})
    with pytest.raises(CorruptFile, match=r"column 'embedding': expected values of fixed"):
        read(path)


_YEARS = [
    datetime.datetime.fromisoformat(text)
    for text in (
        *("0001-01-01", "1582-10-15", "1969-12-31T23:59:59.999999", "2024-02-29T12:00:00.000001"),
        *("2262-04-12", "9999-12-31T23:59:59"),
    )
]


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda v: v, lambda v: v),
        (lambda v: pa.array([[x] for x in v.to_pylist()], pa.list_(v.type)), lambda v: v[0]),
        (lambda v: pa.StructArray.from_arrays([v], ["t"]), lambda v: v["t"]),
    ],
    ids=["plain", "in-lists", "in-structs"],
)
def test_timestamps_of_96_bits_keep_their_years(tmp_path, wrap, unwrap):
    """Regression: read as nanoseconds, 9999 became 1816."""
    path = tmp_path / "0.parquet"
    column = wrap(pa.array(_YEARS, pa.timestamp("us")))
    table = pa.table({"at": column})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True, store_schema=False)
    assert pq.ParquetFile(path).schema.column(0).physical_type == "INT96"
    assert [unwrap(value) for value in read(path)["at"].to_pylist()] == _YEARS
