"""Types that Arrow does not know, and values that a table cannot hold: named, or right."""

from __future__ import annotations

import datetime
import uuid

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from scoreline.lake.elements import UNKNOWN_ROWS, Piece, Shard
from scoreline.lake.files.data_file import CorruptFile, ReadSpec
from scoreline.lake.files.formats import FORMATS
from scoreline.lake.files.logical import name_type
from scoreline.lake.files.parquet import read_footer
from scoreline.lake.files.stored import _is_utf8, check_stored
from tests.inputs import write_bytes
from tests.lake.files.test_decode import read

LOCAL = fs.LocalFileSystem()
_UUID = "4b3f8a90-1c2d-4e5f-8091-a2b3c4d5e6f7"


@pytest.mark.parametrize(
    ("expression", "kind", "value"),
    [
        ("INTERVAL '3 months 2 days'", "Parquet's INTERVAL", None),
        ("[INTERVAL '3 months 2 days']", "list<element: extension<arrow.opaque[", None),
        ("{'i': INTERVAL '1 day', 'n': 1}", "struct<i: extension<arrow.opaque[", None),
        ("1::VARIANT", "Parquet's VARIANT", None),
        ("TIME '12:00:00'", "time64[us]", datetime.time(12)),
        ("'12:00:00+01:00'::TIMETZ", "time64[us]", datetime.time(11)),
        (f"'{_UUID}'::UUID", "fixed_size_binary[16]", uuid.UUID(_UUID).bytes),
        ("['{}']::JSON[]", "list<element: string>", ["{}"]),
        ("'{\"a\": 1}'::JSON", "string", '{"a": 1}'),
        ("'a'::ENUM('a', 'b')", "string", "a"),
        ("'ab'::BLOB", "binary", b"ab"),
        ("'0101'::BIT", "string", "0101"),
        ("18446744073709551615::UBIGINT", "uint64", 2**64 - 1),
        ("MAP {'a': 1}", "map<string, int32 ('v')>", [("a", 1)]),
        ("1.25::DECIMAL(38, 10)", "decimal128(38, 10)", None),
    ],
    ids=lambda value: value if isinstance(value, str) and ":" in value else None,
)
def test_types_of_duckdb_are_read_as_what_they_mean(tmp_path, expression, kind, value):
    """Regression: an INTERVAL was kept as 12 bytes."""
    path = tmp_path / "0.parquet"
    duckdb.sql(f"COPY (SELECT {expression} AS v) TO '{path}' (FORMAT parquet)")
    assert name_type(read_footer(LOCAL, str(path)).schema.field("v").type).startswith(kind)
    if value is not None:
        assert read(path)["v"].to_pylist() == [value]


def test_extension_types_of_arrow_are_their_values_wherever_they_are(tmp_path):
    ids = pa.array([uuid.UUID(_UUID).bytes, None], pa.uuid())
    texts = pa.array(["{}", "[]"], pa.json_())
    tensor = pa.fixed_shape_tensor(pa.float32(), [2, 1])
    pairs = pa.ExtensionArray.from_storage(tensor, pa.array([[1, 2]] * 2, tensor.storage_type))
    inner = pa.StructArray.from_arrays([ids, texts], ["u", "j"])
    lists = pa.ListArray.from_arrays([0, 2, 2], ids)
    path = tmp_path / "0.parquet"
    names = ["u", "j", "t", "s", "l"]
    pq.write_table(pa.Table.from_arrays([ids, texts, pairs, inner, lists], names), path)
    first = {"u": uuid.UUID(_UUID).bytes, "j": "{}"}
    assert read(path).to_pylist() == [
        {**first, "t": [1.0, 2.0], "s": first, "l": [first["u"], None]},
        {"u": None, "j": "[]", "t": [1.0, 2.0], "s": {"u": None, "j": "[]"}, "l": []},
    ]
    assert read(path, ["s.u"]).to_pylist() == [{"s": {"u": first["u"]}}, {"s": {"u": None}}]


def test_enum_of_parquet_is_text(tmp_path):
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table({"e": ["a", "b", None]}), path, store_schema=False)
    data = path.read_bytes()
    utf8, enum = b"\x18\x01e\x25\x00\x4c\x1c", b"\x18\x01e\x25\x08\x4c\x4c"
    assert data.count(utf8) == 1
    path.write_bytes(data.replace(utf8, enum))
    assert pq.ParquetFile(path).schema.column(0).logical_type.type == "ENUM"
    assert read(path)["e"].equals(pa.chunked_array([["a", "b", None]]))
    encoded = read(path, dictionary_columns=["e"])["e"]
    assert encoded.type.value_type == pa.string()
    assert encoded.to_pylist() == ["a", "b", None]


_TIMES = pa.array([1_000, 1_001, None], pa.timestamp("ns"))
_WITHIN = {
    "plain": (lambda times: times, "at"),
    "in-lists": (lambda times: pa.ListArray.from_arrays([0, 0, 1, 3], times), "at"),
    "in-structs": (lambda times: pa.StructArray.from_arrays([times], ["t"]), "at.t"),
    "in-maps": (lambda times: pa.MapArray.from_arrays([0, 1, 2, 2], ["a", "b", "c"], times), "at"),
}


@pytest.mark.parametrize("old", [False, True], ids=["64-bits", "96-bits"])
@pytest.mark.parametrize(("wrap", "column"), _WITHIN.values(), ids=_WITHIN)
def test_nanoseconds_to_store_are_named_with_column_and_file(tmp_path, wrap, column, old):
    path = tmp_path / "0.parquet"
    options = {"use_deprecated_int96_timestamps": old, "store_schema": not old}
    pq.write_table(pa.table({"at": wrap(_TIMES), "id": range(3)}), path, **options)
    assert read(path, batch_rows=2).num_rows == 3
    with pytest.raises(CorruptFile) as e:
        read(path, batch_rows=2, stored=["id", column])
    assert str(e.value).startswith(f"file {path} cannot be read: column 'at")
    assert "expected times in whole microseconds, the finest that a Delta table holds" in str(
        e.value
    )
    assert "write them as int64, or leave the column out of --keys and --keep" in str(e.value)


@pytest.mark.parametrize("old", [False, True], ids=["64-bits", "96-bits"])
def test_whole_microseconds_in_nanoseconds_are_stored(tmp_path, old):
    path = tmp_path / "0.parquet"
    years = [datetime.datetime.fromisoformat(y) for y in ("0001-01-01", "9999-12-31", "2024-01-01")]
    times = pa.array(years, pa.timestamp("us"))
    if not old:
        times = times.slice(2).cast(pa.timestamp("ns"))
    pq.write_table(pa.table({"at": times}), path, use_deprecated_int96_timestamps=old)
    assert (
        read(path, stored=["at"])["at"].cast(pa.timestamp("us")).to_pylist() == years[-len(times) :]
    )


@pytest.mark.parametrize("ticks", [2**54, -(2**54), 2**63 - 1])
def test_times_beyond_all_microseconds_are_named(tmp_path, ticks):
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table({"at": pa.array([0, None, ticks], pa.timestamp("ms"))}), path)
    assert read(path).num_rows == 3
    with pytest.raises(CorruptFile, match="column 'at': expected times of the years -290307 to"):
        read(path, stored=["at"])


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "json.gz"])
def test_nanoseconds_of_text_files_are_named_too(tmp_path, suffix):
    value = "2024-01-01 00:00:00.000000001"
    text = f"at\n{value}\n" if "csv" in suffix else f'{{"at": "{value}"}}\n'
    path = write_bytes(tmp_path / f"0.{suffix}", text.encode())
    piece = Piece(str(path), 0, 1, 0, UNKNOWN_ROWS, path.stat().st_size)
    shard = Shard("date=1", "a" * 15, "", 0, 1, [piece], UNKNOWN_ROWS)
    schema = pa.schema({"at": pa.timestamp("ns")})
    spec = ReadSpec(["at"], 10, schema=schema, stored=["at"])
    with pytest.raises(CorruptFile, match=rf"file {path} cannot be read: column 'at': expect"):
        list(FORMATS["csv" if "csv" in suffix else "jsonl"].read(LOCAL, shard, spec))


def _texts(values, kind=pa.string()):  # noqa: B008
    wide = "large" in str(kind)
    return pa.array(values, pa.large_binary() if wide else pa.binary()).view(kind)


@pytest.mark.parametrize(
    "column",
    [
        _texts([b"ok", b"\xff"]),
        _texts([b"ok", b"\xff"], pa.large_string()),
        _texts([b"\xc3", b"\xbc"]),
        pa.DictionaryArray.from_arrays(pa.array([0, 0]), _texts([b"\xff"])),
        pa.ListArray.from_arrays([0, 1, 2], _texts([b"ok", b"\xff"])),
        pa.StructArray.from_arrays([_texts([b"ok", b"\xff"])], ["t"]),
        pa.FixedSizeListArray.from_arrays(_texts([b"ok", b"\xff"]), 1),
    ],
    ids=["text", "large", "split-character", "dictionary", "list", "struct", "fixed-list"],
)
def test_text_to_store_that_is_not_utf8_is_named(tmp_path, column):
    """Regression: it went to the table, and other readers could not read that."""
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table({"t": column, "x": [1, 2]}), path, store_schema=False)
    assert read(path, ["x"], stored=["x"]).num_rows == 2
    with pytest.raises(CorruptFile, match="column 't': expected UTF-8 text, got other bytes"):
        read(path, stored=["t"])


@given(values=st.lists(st.binary(max_size=6) | st.text(max_size=3).map(str.encode) | st.none()))
def test_the_check_of_text_agrees_with_arrows(values):
    for kind in (pa.string(), pa.large_string()):
        array = _texts(values, kind)
        for part in (array, array.slice(1), array.slice(2, 3)):
            try:
                pa.array(part.to_pylist(), kind)
                expected = True
            except UnicodeDecodeError:
                expected = False
            assert _is_utf8(part) == expected


def test_columns_that_a_file_lacks_are_not_checked():
    batch = pa.RecordBatch.from_arrays([pa.array(np.arange(3))], ["id"])
    check_stored(batch, ["id", "added later", "s.t"])


def test_codes_beyond_their_dictionary_are_an_error(tmp_path):
    """Regression: they went to the model, where each row failed."""
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table({"s": ["a", "b", "c", "d"] * 2}), path, compression="none")
    data = path.read_bytes()
    codes = bytes([2, 3, 0b11100100, 0b11100100])  # 2 bits each, 8 at once: 0 1 2 3 0 1 2 3
    assert data.count(codes) == 1
    path.write_bytes(data.replace(codes, bytes([3, 3, 0b10001000, 0b11000110, 0b11111010])))
    with pytest.raises(CorruptFile, match=r"column 's': expected codes below 4|cannot be read"):
        read(path, dictionary_columns=["s"])
