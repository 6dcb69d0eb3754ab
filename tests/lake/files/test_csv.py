from __future__ import annotations

import gzip

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv
from pyarrow import fs

from scoreline.lake.files import csv_rows
from scoreline.lake.files.csv import describe_csv, read_csv
from scoreline.lake.files.csv_schema import infer_csv
from scoreline.lake.files.data_file import CorruptFile, DataFile, ReadSpec
from tests.inputs import write_bytes

LOCAL = fs.LocalFileSystem()


def read(path, schema, columns=None, **options):
    spec = ReadSpec(columns or schema.names, 10, schema=schema, **options)
    return pa.Table.from_batches(list(read_csv(LOCAL, str(path), spec)), schema=None)


def infer(tmp_path, *texts):
    paths = [write_bytes(tmp_path / f"{i}.csv", text.encode()) for i, text in enumerate(texts)]
    schema = infer_csv(LOCAL, [str(path) for path in paths], None)
    return {field.name: str(field.type) for field in schema}


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(allow_nan=False),
            st.none() | st.text(st.characters(blacklist_categories=("Cs",), min_codepoint=1)),
        ),
        min_size=1,
        max_size=20,
    ),
    suffix=st.sampled_from(["csv", "csv.gz"]),
)
def test_rows_come_back_as_they_were_written(tmp_path_factory, rows, suffix):
    schema = pa.schema([("i", pa.int64()), ("x", pa.float64()), ("s", pa.string())])
    columns = [
        pa.array(column, kind.type)
        for column, kind in zip(zip(*rows, strict=True), schema, strict=True)
    ]
    table = pa.table(columns, schema)
    sink = pa.BufferOutputStream()
    arrow_csv.write_csv(table, sink)
    path = tmp_path_factory.mktemp("csv") / f"0.{suffix}"
    write_bytes(path, sink.getvalue().to_pybytes())
    assert read(path, schema).to_pylist() == table.to_pylist()


def test_empty_field_is_null_and_nothing_else_is(tmp_path):
    path = write_bytes(tmp_path / "0.csv", b'i,s\n1,\n2,""\n3,NA\n4,null\n,"x\ny"\n')
    schema = pa.schema([("i", pa.int64()), ("s", pa.string())])
    table = read(path, schema)
    assert table["s"].to_pylist() == [None, "", "NA", "null", "x\ny"]
    assert table["i"].to_pylist() == [1, 2, 3, 4, None]
    path = write_bytes(tmp_path / "1.csv", b"i,s\n1,\n2,3\n3,NA\n")
    with pytest.raises(CorruptFile, match=r"row 4, column 's': expected double, got 'NA'\."):
        read(path, pa.schema([("s", pa.float64())]))


def test_rows_are_counted_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_rows.read_rows, "__defaults__", ("", 100))
    lines = [b"i"] + [b"%d" % i for i in range(500)]
    path = write_bytes(tmp_path / "0.csv", b"\n".join([*lines, b"x"]))
    with pytest.raises(CorruptFile, match=r"row 502, column 'i': expected int64, got 'x'\."):
        read(path, pa.schema([("i", pa.int64())]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"i,s\n1,a\n2\n", r"row 3: expected 2 fields, as in the header, got 1"),
        (b"i,s\n1,a\n2,b,c\n", r"row 3: expected 2 fields, as in the header, got 3"),
        (b'i,s\n1,"a\n2,b\n3,c\n', r"0\.csv cannot be read: row 2: a quoted field never ends"),
        (b"i,s\n1,\xff\n", r"row 2, column 's': expected UTF-8, got other bytes"),
        (b"i\n1\n", r"0\.csv cannot be read: expected column 's' in the header, got i"),
    ],
)
def test_damage_is_an_error_and_never_a_null(tmp_path, text, message):
    path = write_bytes(tmp_path / "0.csv", text)
    schema = pa.schema([("i", pa.int64()), ("s", pa.string())])
    with pytest.raises(CorruptFile, match=message):
        read(path, schema)


def test_file_may_lack_only_what_it_is_allowed_to(tmp_path):
    path = write_bytes(tmp_path / "0.csv", b"i\n1\n")
    schema = pa.schema([("i", pa.int64()), ("s", pa.string())])
    assert read(path, schema, may_lack=["s"]).to_pylist() == [{"i": 1}]


def test_footer_has_the_columns_of_the_header(tmp_path):
    path = write_bytes(tmp_path / "0.csv", b"\xef\xbb\xbfs,new,i\na,b,1\n")
    schema = pa.schema([("i", pa.int64()), ("s", pa.string()), ("x", pa.float64())])
    footer = describe_csv(LOCAL, DataFile(str(path), 20, 0), schema)
    assert footer.schema == pa.schema([("s", pa.string()), ("i", pa.int64())])
    assert footer.is_whole
    assert footer.group_bytes == (20,)
    footer = describe_csv(LOCAL, DataFile(str(tmp_path / "no.csv"), 1, 0), schema)
    assert footer.error.startswith(f"file {tmp_path}/no.csv cannot be read: ")


def test_inference_never_takes_digits_away(tmp_path):
    text = (
        "zip,long,hex,i,x,day,at,b,t,none\n"
        "00501,12345678901234567890,0x1F,7,1.5,2024-01-01,2024-01-01T10:00:00,true,10:00:00,\n"
    )
    assert infer(tmp_path, text) == {
        "zip": "string",
        "long": "string",
        "hex": "string",
        "i": "int64",
        "x": "double",
        "day": "date32[day]",
        "at": "timestamp[s]",
        "b": "bool",
        "t": "string",
        "none": "null",
    }


def test_inference_holds_all_sampled_files(tmp_path):
    one, two = "a,b,c,d\n1,1,,2024-01-01\n", "a,b,c,e\n1.5,x,3,z\n"
    assert infer(tmp_path, one, two, "\n", "a,b\n1\n") == {
        "a": "double",
        "b": "string",
        "c": "int64",
        "d": "date32[day]",
        "e": "string",
    }


def test_inference_takes_other_encodings_for_bytes(tmp_path):
    path = write_bytes(tmp_path / "0.csv", b"i,s\n1,\xff\n")
    schema = infer_csv(LOCAL, [str(path)], None)
    assert schema == pa.schema([("i", pa.int64()), ("s", pa.binary())])
    assert read(path, schema).to_pylist() == [{"i": 1, "s": b"\xff"}]


def test_row_that_is_longer_than_the_head_of_a_file_is_read(tmp_path):
    wide = "x" * 300_000
    path = write_bytes(tmp_path / "0.csv", f"i,s\n1,{wide}\n".encode())
    schema = pa.schema([("i", pa.int64()), ("s", pa.string())])
    footer = describe_csv(LOCAL, DataFile(str(path), path.stat().st_size, 0), schema)
    assert footer.schema == schema
    assert infer_csv(LOCAL, [str(path)], None) == schema
    assert read(path, schema)["s"].to_pylist() == [wide]


@pytest.mark.parametrize("is_far", [False, True], ids=["first block", "later block"])
@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        (pa.float32(), "3.5e38", "expected a number that float holds, got '3.5e38'"),
        (pa.float32(), "1e400", "expected a number that float holds, got '1e400'"),
        (pa.float32(), "-3.5e38", "expected a number that float holds, got '-3.5e38'"),
        (pa.float64(), "1e400", "expected a number that double holds, got '1e400'"),
        (pa.float64(), "9007199254740993", "which would be rounded"),
        (pa.float64(), " -9007199254740993.00", "which would be rounded"),
        (pa.float64(), "123456789012345678901234567890", "which would be rounded"),
        (pa.int8(), "128", "expected int8, got '128'"),
        (pa.uint8(), "-1", "expected uint8, got '-1'"),
        (pa.int64(), "9223372036854775808", "expected int64, got '9223372036854775808'"),
        (pa.int64(), "1.0", "expected int64, got '1.0'"),
        (pa.timestamp("us"), "2024-03-31T02:30:00+01:00", "[us], without a zone offset, got '20"),
        (pa.timestamp("us"), "2024-03-31T02:30:00Z", "[us], without a zone offset, got '2024"),
        (pa.timestamp("us", "UTC"), "2024-03-31T02:30:00", "UTC], with a zone offset, got '2024"),
        (pa.timestamp("us"), "2024-03-31T02:30:00.1234567", "expected timestamp[us], got '2024"),
        (pa.date32(), "2024-02-30", "expected date32[day], got '2024-02-30'"),
        (pa.bool_(), "yes", "expected bool, got 'yes'"),
    ],
)
def test_value_that_would_change_is_named(tmp_path, monkeypatch, kind, text, problem, is_far):
    monkeypatch.setattr(csv_rows.read_rows, "__defaults__", ("", 100))
    rows = [b"1,"] * (100 if is_far else 1)
    data = b"\n".join([b"k,v", *rows, b"1," + text.encode(), b"2,"])
    path = write_bytes(tmp_path / "0.csv", data)
    with pytest.raises(CorruptFile, match=rf"row {len(rows) + 2}, column 'v': ") as error:
        read(path, pa.schema([("k", pa.int64()), ("v", kind)]))
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("first", "later", "problem"),
    [
        ("1.0", "9007199254740993", "which would be rounded"),
        ("1.0", "1e999", "expected a number that double holds"),
        ("7", "007", "expected int64, got '007', which would lose its form"),
        ("7", "-07", "expected int64, got '-07', which would lose its form"),
        ("7", '" 07"', "expected int64, got '07', which would lose its form"),
        ("7", "0x1F", "expected int64, got '0x1F', which would lose its form"),
        ("7", "1.5", "expected int64, got '1.5'"),
        ("7", "9223372036854775808", "expected int64, got '9223372036854775808'"),
        ("0.5", "007", "expected double, got '007', which would lose its form"),
        ("0.5", "+491701234567", "which would lose its form"),
        ("true", "1", "expected bool, got '1'"),
        ("2024-01-01", "2024-01-01T10:00:00", "expected date32[day], got '2024-01-01T10:00:00'"),
        ("2024-01-01T10:00:00", "2024-01-01T10:00:00Z", "without a zone offset"),
        ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00", "with a zone offset"),
        ("2024-01-01T10:00:00", "2024-01-01T10:00:00.5", "expected timestamp[s], got '2024"),
        ("", "7", "expected null, got '7'"),
    ],
)
def test_later_value_is_not_changed_to_fit_an_inferred_type(tmp_path, first, later, problem):
    one = write_bytes(tmp_path / "0.csv", f"k,v\na,{first}\n".encode())
    two = write_bytes(tmp_path / "1.csv", f"v,further,k\n{first},,b\n\n{later},,c".encode())
    schema = infer_csv(LOCAL, [str(one)], None)
    assert read(one, schema, is_inferred=True, stored=["v"]).num_rows == 1
    with pytest.raises(CorruptFile, match=r"1\.csv cannot be read: row 3, column 'v': ") as error:
        read(two, schema, is_inferred=True, stored=["v"])
    assert problem in str(error.value)


def test_number_is_read_as_it_is_written(tmp_path):
    texts = ["0.05", "-0.5", "1e300", "9007199254740992", "9007199254740994", "inf", "-Infinity"]
    rows = "".join(f"2024-01-05 00:00:00,{i},a 07,{text}\n" for i, text in enumerate(texts))
    path = write_bytes(tmp_path / "0.csv", f"at,i,s,x\n{rows}".encode())
    schema = pa.schema(
        [("at", pa.timestamp("s")), ("i", pa.int64()), ("s", pa.string()), ("x", pa.float64())]
    )
    for is_inferred in (False, True):
        table = read(path, schema, is_inferred=is_inferred, stored=["i", "x"])
        assert table["x"].to_pylist() == [float(text) for text in texts]
        assert table["i"].to_pylist() == list(range(len(texts)))
    path = write_bytes(tmp_path / "1.csv", b"i,b\n007,1\n+0,0\n")
    schema = pa.schema([("i", pa.int64()), ("b", pa.bool_())])
    with pytest.raises(CorruptFile, match=r"row 3, column 'i': expected int64, got '\+0'"):
        read(path, schema)
    path = write_bytes(tmp_path / "1.csv", b"i,b\n007,1\n")
    assert read(path, schema).to_pylist() == [{"i": 7, "b": True}]  # as the user said


def test_long_whole_numbers_among_others_are_text_in_the_sample(tmp_path):
    one, two = "a,b,c\n1.5,+49,12\n", "a,b,c\n9007199254740993,1,+7\n"
    assert infer(tmp_path, one, two) == {"a": "string", "b": "string", "c": "string"}
    assert infer(tmp_path, "a,b\n1.5,+4.5\n9007199254740993,1\n") == {"a": "string", "b": "double"}


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b"", []),
        (b" \r\n\n\t\n", []),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", []),
        (b"i,s", []),
        (b"\n\ni,s\r\n\r\n", []),
        (b"i,s\n1,a", [(1, "a")]),
        (b"\xef\xbb\xbfi,s\r\n1,a\r\n\r\n2,", [(1, "a"), (2, None)]),
        (b"i,s\r1,a\r2,b", [(1, "a"), (2, "b")]),
        (b'"i","s"\n1,a\0b\n', [(1, "a\0b")]),
    ],
)
def test_file_is_read_to_its_last_row_and_an_empty_one_has_none(tmp_path, text, rows, suffix):
    path = write_bytes(tmp_path / f"0.{suffix}", text)
    schema = pa.schema([("i", pa.int64()), ("s", pa.string())])
    footer = describe_csv(LOCAL, DataFile(str(path), len(text), 0), schema)
    assert footer.error == ""
    assert footer.schema == schema
    batches = list(read_csv(LOCAL, str(path), ReadSpec(["i", "s"], 10, schema=schema)))
    assert [(row["i"], row["s"]) for batch in batches for row in batch.to_pylist()] == rows
    sound = write_bytes(tmp_path / "1.csv", b"i,s\n1,a\n")
    assert infer_csv(LOCAL, [str(path), str(sound)], None) == schema


@pytest.mark.parametrize("block_bytes", [4, 100])
def test_byte_order_mark_within_the_file_is_text(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(csv_rows.read_rows, "__defaults__", ("", block_bytes))
    path = write_bytes(tmp_path / "0.csv", b"s,i\na,1\n\xef\xbb\xbfb,2\n\xef\xbb\xbf,x")
    schema = pa.schema([("s", pa.string()), ("i", pa.int64())])
    assert read(path, schema, columns=["s"])["s"].to_pylist() == ["a", "\ufeffb", "\ufeff"]
    with pytest.raises(CorruptFile, match=r"row 4, column 'i': expected int64, got 'x'"):
        read(path, schema)


def test_empty_file_lacks_no_column(tmp_path):
    path = write_bytes(tmp_path / "0.csv", b"")
    schema = pa.schema([("i", pa.int64()), ("s", pa.string())])
    assert not list(read_csv(LOCAL, str(path), ReadSpec(["i", "s"], 1, ["s"], schema=schema)))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("i,s\n1,ä\n".encode("utf-16"), "expected UTF-8 text, got UTF-16. Convert it"),
        ("i,s\n1,ä\n".encode("utf-16-le"), "expected UTF-8 text, got zero bytes, as in UTF-16"),
        ("i,s\n1,ä\n".encode("utf-16-be"), "expected UTF-8 text, got zero bytes, as in UTF-16"),
        ("i,s\n1,ä\n".encode("utf-32"), "expected UTF-8 text, got UTF-32"),
        (b"\0" * 100, "expected UTF-8 text, got zero bytes"),
        (b"PAR1....", "expected UTF-8 text, got a Parquet file"),
        (
            gzip.compress(b"i,s\n1,a\n", mtime=0),
            "expected UTF-8 text, got gzip data; add .gz to its name",
        ),
        (b"PK\x03\x04xx", "expected UTF-8 text, got a zip archive"),
        (b"i,s,\xe4\n1,a,b\n", "expected UTF-8 text, got a header with other bytes"),
        (b"i,s,i\n1,a,2\n", "expected one column 'i' in the header, got 2"),
    ],
)
def test_file_that_is_no_csv_is_refused_before_the_first_row(tmp_path, data, problem):
    path = tmp_path / "0.csv"
    path.write_bytes(data)
    schema = pa.schema([("i", pa.int64()), ("s", pa.string())])
    footer = describe_csv(LOCAL, DataFile(str(path), len(data), 0), schema)
    assert footer.error.startswith(f"file {path} cannot be read: ")
    assert problem in footer.error


@pytest.mark.parametrize("cut", [1, 5, 9, 2000], ids=lambda n: f"cut by {n}")
def test_damaged_gzip_is_an_error(tmp_path, cut):
    whole = gzip.compress(b"i,s\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(9999)))
    schema = pa.schema([("i", pa.int64()), ("s", pa.string())])
    path = tmp_path / "0.csv.gz"
    for data in (whole[:-cut], whole + b"x" * cut):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="its gzip data is damaged, cut off, or followed by"):
            read(path, schema)
    path.write_bytes(whole + gzip.compress(b"9999,\n"))
    assert read(path, schema).num_rows == 10_000


def test_damage_in_the_sample_is_named_if_nothing_else_can_be_sampled(tmp_path):
    with pytest.raises(ValueError, match=r"0\.csv cannot be read: row 3: expected 2 fields, as"):
        infer(tmp_path, "a,b\n1,2\n3\n")
    with pytest.raises(ValueError, match=r"0\.csv cannot be read: row 2: .* got \'b\'"):
        infer(tmp_path, 'a,b\n1,"a"b\n')
    assert infer(tmp_path, "a,b\n1,2\n3\n", "a,b\n1,2\n") == {"a": "int64", "b": "int64"}
    assert infer(tmp_path, "", " \n") == {}
