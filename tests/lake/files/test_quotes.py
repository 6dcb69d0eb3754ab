from __future__ import annotations

import io

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from scoreline.lake.files import csv_rows
from scoreline.lake.files.csv import describe_csv, read_csv
from scoreline.lake.files.csv_rows import read_rows, row_of
from scoreline.lake.files.data_file import CorruptFile, DataFile, ReadSpec
from tests.inputs import write_bytes

LOCAL = fs.LocalFileSystem()
SCHEMA = pa.schema([("id", pa.int64()), ("note", pa.string())])
SPARK = b'id,note\n1,"pipe 12\\""\n2,plain\n3,"pipe 6\\""\n4,last\n'


def read(tmp_path, data, escape="", name="0.csv", schema=SCHEMA):
    path = write_bytes(tmp_path / name, data)
    spec = ReadSpec(schema.names, 10, schema=schema, csv_escape=escape)
    return [row for batch in read_csv(LOCAL, str(path), spec) for row in batch.to_pylist()]


def notes(tmp_path, data, escape=""):
    return [row["note"] for row in read(tmp_path, data, escape)]


class Reference:
    """The states of Arrow's parser, byte by byte."""

    def __init__(self, text, escape=""):
        self.rows, self.problem = [[]], ""
        field, state, at = [], "start", 0
        while at < len(text):
            mark, after = text[at], text[at + 1 : at + 2]
            if state == "quoted":
                if escape and mark == escape and after in ('"', escape) and after:
                    field.append(after)
                    at += 1
                elif mark == '"' and after == '"':
                    field.append('"')
                    at += 1
                elif mark == '"':
                    if after not in ("", ",", "\n"):
                        self.problem = "must be followed"
                        return
                    state = "plain"
                else:
                    field.append(mark)
            elif mark == '"' and state == "start":
                state = "quoted"
            elif mark in ",\n":
                self.rows[-1].append("".join(field))
                field, state = [], "start"
                if mark == "\n":
                    self.rows.append([])
            else:
                field.append(mark)
                state = "plain"
            at += 1
        if state == "quoted":
            self.problem = "never ends"
        elif field or self.rows[-1] or state != "start":
            self.rows[-1].append("".join(field))


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(st.sampled_from('"",\n\\a'), max_size=30),
    size=st.integers(1, 40),
    escape=st.sampled_from(['"', "\\", "'"]),
)
def test_marks_are_followed_as_arrow_follows_them_however_blocks_fall(text, size, escape):
    wanted = Reference(text.removesuffix("\n") + "\n", "" if escape == '"' else escape)
    result, problem = b"", ""
    try:
        for block in read_rows(io.BytesIO(text.encode()), escape, size):
            result += block
    except ValueError as e:
        problem = str(e)
    assert bool(problem) == bool(wanted.problem)
    assert wanted.problem in problem
    if not problem:  # all marks are doubled now
        got = Reference(result.decode())
        blank: list[list[str]] = [[], [""]]  # Arrow passes over empty lines
        assert [r for r in got.rows if r not in blank] == [r for r in wanted.rows if r not in blank]


def test_backslash_before_a_mark_is_an_escape_if_the_user_says_so(tmp_path):
    assert notes(tmp_path, SPARK, "\\") == ['pipe 12"', "plain", 'pipe 6"', "last"]
    assert read(tmp_path, SPARK, "\\", "0.csv.gz") == read(tmp_path, SPARK, "\\")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (b'"the \\"big\\" one"', 'the "big" one'),
        (b'"C:\\temp\\new"', "C:\\temp\\new"),  # before another character it means itself
        (b'"ends in \\\\"', "ends in \\"),
        (b'"\\\\\\""', '\\"'),
        (b"C:\\temp\\new\\", "C:\\temp\\new\\"),  # and outside quotes too
        (b"a\\\\b", "a\\\\b"),
        (b'"two\nlines, \\"a\\""', 'two\nlines, "a"'),
        (b'"doubled ""too"""', 'doubled "too"'),
        (b'""', ""),
        (b"", None),
        (b'6\\" pipe', '6\\" pipe'),
    ],
)
def test_dialect_of_spark_is_read_as_spark_reads_it(tmp_path, field, text):
    data = b"id,note\n1," + field + b"\n2,last\n"
    assert notes(tmp_path, data, "\\") == [text, "last"]


@pytest.mark.parametrize("block_bytes", [7, 4 << 20])
@pytest.mark.parametrize(
    ("data", "row", "problem"),
    [
        (SPARK, 2, "must be followed by a comma or the end of the line, got 'p'"),
        (b'id,note\n1,a\n2,"the \\"big\\" one"\n3,"x"\n', 3, "line, got 'b'"),
        (b'id,note\n1,a\n\n"2","a"b\n', 3, "line, got 'b'"),
        (b'id,note\r\n1,"two\r\nlines"\r\n\r\n2,"a" \r\n', 3, "line, got ' '"),
        (b'id,note\n1,"cut', 2, "a quoted field never ends"),
        (b'id,note\n1,a\n2,"pipe 12\\""\n3,plain\n', 3, "a quoted field never ends"),
        (b'\xef\xbb\xbf"id",note\n"1","x"y\n', 2, "line, got 'y'"),
        (b'"id"x,note\n1,a\n', 1, "line, got 'x'"),
        (b'id,note,z\n1,"12\\"",2.0\n2,",x",3.0\n3,",y","\\""\n', 2, "it is unclear whether"),
        (b'id,note\n1,a\n\n2,"the \\\\\\"big\\" one" \n', 3, "line, got ' '"),
    ],
)
def test_mark_in_the_wrong_place_is_an_error_with_its_row(
    tmp_path, monkeypatch, data, row, problem, block_bytes
):
    monkeypatch.setattr(csv_rows.read_rows, "__defaults__", ("", block_bytes))
    escape = "\\" if b"\\\\" in data else ""
    with pytest.raises(CorruptFile, match=rf"0\.csv cannot be read: row {row}: ") as error:
        read(tmp_path, data, escape)
    assert problem in str(error.value)
    assert ("set --csv_escape '\\'" in str(error.value)) is not bool(escape)
    path = str(tmp_path / "0.csv")
    footer = describe_csv(LOCAL, DataFile(path, len(data), 0), SCHEMA, escape)
    if "never ends" not in problem:  # so near to its beginning, it is found before the first row
        assert problem in footer.error


@pytest.mark.parametrize("block_bytes", [7, 4 << 20])
def test_inch_marks_in_unquoted_fields_are_text(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(csv_rows.read_rows, "__defaults__", ("", block_bytes))
    texts = ['12" pipe', '6""', 'a"b"c', ' "blank first"', 'quoted, 3" pipe', 'two\n"lines"']
    fields = [t if i < 4 else '"' + t.replace('"', '""') + '"' for i, t in enumerate(texts)]
    lines = [f"{i},{field}\n" for i, field in enumerate(fields)]
    data = "id,note\n" + "".join(lines) + '9,last "'
    assert notes(tmp_path, data.encode()) == [*texts, 'last "']


def test_row_is_found_in_the_dialect_of_the_file():
    data = b'\xef\xbb\xbfid,note\r\n\r\n1,"a\n""b"\r\n2,"c\rd"\r3,x\n'
    for place, row in ((0, 1), (13, 2), (20, 2), (26, 3), (29, 3), (30, 4)):
        assert row_of(io.BytesIO(data), place, "") == row, place
