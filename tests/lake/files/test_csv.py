from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv
from pyarrow import fs

from scoreline.lake.files import csv
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
    monkeypatch.setattr(csv, "_BLOCK_BYTES", 100)
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
        (b"i\n1\n", r"Column 's' in include_columns does not exist"),
    ],
)
def test_damage_is_an_error_and_never_a_null(tmp_path, text, message):
    path = write_bytes(tmp_path / "0.csv", text)
    schema = pa.schema([("i", pa.int64()), ("s", pa.string())])
    with pytest.raises((pa.ArrowKeyError, CorruptFile), match=message):
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
