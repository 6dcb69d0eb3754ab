from __future__ import annotations

import datetime
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from scoreline.lake.files import jsonl
from scoreline.lake.files.data_file import CorruptFile, DataFile, Limits, ReadSpec
from scoreline.lake.files.jsonl import describe_jsonl, read_jsonl
from scoreline.lake.files.jsonl_schema import infer_jsonl
from tests.inputs import write_bytes

LOCAL = fs.LocalFileSystem()
SCHEMA = pa.schema([("i", pa.int64()), ("x", pa.float64()), ("s", pa.string())])


def read(path, schema=SCHEMA, columns=None, **options):
    spec = ReadSpec(columns or schema.names, 10, schema=schema, **options)
    return [row for batch in read_jsonl(LOCAL, str(path), spec) for row in batch.to_pylist()]


def infer(tmp_path, *texts):
    paths = [write_bytes(tmp_path / f"{i}.jsonl", text) for i, text in enumerate(texts)]
    schema = infer_jsonl(LOCAL, [str(path) for path in paths], None)
    return {field.name: str(field.type) for field in schema}


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "i": st.none() | st.integers(-(2**63), 2**63 - 1),
                "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
                "s": st.none() | st.text(st.characters(blacklist_categories=("Cs",))),
            }
        ),
        min_size=1,
        max_size=30,
    ),
    block_bytes=st.integers(1, 200),
    suffix=st.sampled_from(["jsonl", "json.gz"]),
)
def test_rows_come_back_as_they_were_however_blocks_fall(
    tmp_path_factory, rows, block_bytes, suffix
):
    path = tmp_path_factory.mktemp("jsonl") / f"0.{suffix}"
    write_bytes(path, "\n".join(map(json.dumps, rows)).encode())
    before = jsonl.PIECE_BYTES
    jsonl.read_blocks.__defaults__ = (block_bytes,)
    try:
        assert read(path) == rows
    finally:
        jsonl.read_blocks.__defaults__ = (before,)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"i": 1.5}', "column 'i': expected int64, got 1.5"),
        (b'{"i": 12345678901234567890}', "expected int64, got 12345678901234567890"),
        (b'{"i": "1"}', "column 'i': expected int64, got '1'"),
        (b'{"s": 1}', "column 's': expected string, got 1"),
        (b'{"i": 1, "i": 2}', "expected key 'i' once, got it twice"),
        (b'{"i": 1', "expected an object in JSON, got the end of the line"),
        (b"[1]", "expected an object, got an array"),
        (b'{"s": "\xff"}', "expected UTF-8"),
        (b'{"i": true}', "column 'i': expected int64, got true"),
        (b'{"i": {}}', "column 'i': expected int64, got an object"),
        (b'{"x": ' + b"[" * 200_000, "expected an object in JSON, got"),
        (b"null", "expected an object, got null"),  # Arrow reads a row of nulls, or crashes
        (b'"x"', "expected an object, got"),
        (b"1", "expected an object, got 1"),
        (b'{"i": 1} {"i": 2}', """got '{"i": 2}' at character 10"""),
        (b'{"i": 1}\r{"i": 2}', """got '{"i": 2}' at character 10"""),
        (b'{"i": 1} null', "got 'null' at character 10"),
        (b'{"i": 1} // one', "expected an object in JSON, got '// one' at character 10"),
        (b'{"s": "a\0b"}', "expected an object in JSON, got"),
        (b'{"x": 9007199254740993}', "column 'x': expected a whole number that double holds"),
        (b'{"x": -9007199254740993.0}', "got '-9007199254740993.0', which would be rounded"),
        (b'{"x": 1e400}', "column 'x': expected a number that double holds, got '1e400'"),
        (b'{"x": NaN}', "column 'x': expected double, got NaN"),
    ],
)
def test_line_that_does_not_fit_is_named_and_never_a_null(tmp_path, line, problem):
    lines = [b'{"i": 1}', b"", b'{"i": 2, "other": [1]}', line, b'{"i": 3}']
    path = write_bytes(tmp_path / "0.jsonl", b"\n".join(lines))
    with pytest.raises(CorruptFile, match=r"0\.jsonl cannot be read: line 4: ") as error:
        read(path)
    assert problem in str(error.value)
    assert ("zone" in str(error.value)) == ("zone" in problem)


def test_lines_are_counted_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl.read_blocks, "__defaults__", (64,))
    lines = [b'{"i": %d}' % i for i in range(100)] + [b"\n\n{}", b"oops"]
    path = write_bytes(tmp_path / "0.jsonl", b"\n".join(lines))
    with pytest.raises(CorruptFile, match=r"line 104: expected an object in JSON, got 'oops'"):
        read(path)


def test_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl.read_blocks, "__defaults__", (10,))
    path = write_bytes(tmp_path / "0.jsonl", b'{"s": "' + b"x" * 60)
    with pytest.raises(ValueError, match="line 1 takes more than 50 bytes"):
        read(path, limits=Limits(50, 500))


def test_only_wanted_columns_are_read_and_fields_of_objects_by_their_parent(tmp_path):
    path = write_bytes(tmp_path / "0.jsonl", b'{"p": {"c": 1}, "i": 2, "l": [1.5]}\n')
    schema = pa.schema(
        [("p", pa.struct([("c", pa.int64())])), ("i", pa.int64()), ("l", pa.list_(pa.float32()))]
    )
    assert read(path, schema, ["l", "p.c"]) == [{"l": [1.5], "p": {"c": 1}}]
    assert read(path, schema, ["i", "gone"], may_lack=["gone"]) == [{"i": 2}]


def test_times_are_texts_in_json(tmp_path):
    path = write_bytes(tmp_path / "0.jsonl", b'{"d": "2024-01-02", "t": "2024-01-02T03:04:05"}\n')
    schema = pa.schema([("d", pa.date32()), ("t", pa.timestamp("us"))])
    at = datetime.datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001  as it stands there
    assert read(path, schema) == [{"d": at.date(), "t": at}]
    write_bytes(path, b'{"d": "2024-01-02"}\n{"d": "soon"}\n')
    with pytest.raises(CorruptFile, match=r"line 2: .*soon"):
        read(path, schema)


def test_files_that_do_not_begin_with_an_object_are_refused(tmp_path):
    for text, what in (
        (b"[\n{}]", "got an array"),
        (b"id,x\n", "got 'id,x'"),
        (b'{\n "id": 1\n}\n', "got '{'"),
    ):
        path = write_bytes(tmp_path / "0.json", text)
        footer = describe_jsonl(LOCAL, DataFile(str(path), 3, 0), SCHEMA)
        assert "expected JSON Lines, an object in each line" in footer.error
        assert what in footer.error
    path = write_bytes(tmp_path / "0.json", b'{"id": 1e400}\n{}\n')  # named by the reader
    assert describe_jsonl(LOCAL, DataFile(str(path), 3, 0), SCHEMA).is_whole
    path = write_bytes(tmp_path / "0.json", b"")
    assert describe_jsonl(LOCAL, DataFile(str(path), 0, 0), SCHEMA).is_whole


def test_inference_keeps_text_and_holds_all_sampled_files(tmp_path):
    one = (
        b'{"day": "2024-01-01", "i": 1, "o": {"at": "10:00:00", "l": ["2024-01-01"]}, "n": null}\n'
    )
    two = b'{"i": 1.5, "n": 3, "o": {"k": true}}\n'
    assert infer(tmp_path, one, two, b"damaged") == {
        "day": "string",
        "i": "double",
        "o": "struct<at: string, l: list<item: string>, k: bool>",
        "n": "int64",
    }


def test_inference_refuses_what_no_one_type_holds(tmp_path):
    with pytest.raises(ValueError, match=r"0.jsonl, line 2: column 'a' changes from number to "):
        infer(tmp_path, b'{"a": 1}\n{"a": "x"}\n')
    with pytest.raises(ValueError, match=r"1\.jsonl has other types than .*0\.jsonl: .*'?a'?"):
        infer(tmp_path, b'{"a": 1}\n', b'{"a": "x"}\n')
    with pytest.raises(ValueError, match=r"0.jsonl, line 1: column 'a': expected a whole"):
        infer(tmp_path, b'{"a": 12345678901234567890}\n')


@pytest.mark.parametrize("text", [b"null\n", b'\n null\n{"i": 1}', b'{"i": 1}\nnull\n'])
def test_line_of_null_is_refused_before_it_crashes_the_parser(tmp_path, text):
    path = write_bytes(tmp_path / "0.jsonl", text)
    with pytest.raises(CorruptFile, match=r"line [12]: expected an object, got '?null"):
        read(path)
    with pytest.raises(ValueError, match=r"expected an object, got '?null"):
        infer_jsonl(LOCAL, [str(path)], None)


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (pa.float32(), "3.5e38", "expected a number that float holds, got '3.5e38'"),
        (pa.float64(), "9007199254740993", "expected a whole number that double holds"),
        (pa.int8(), "128", "expected int8, got 128"),
        (pa.uint64(), "-1", "expected uint64, got -1"),
        (pa.int64(), "9223372036854775808", "expected int64, got 9223372036854775808"),
        (pa.timestamp("us"), '"2024-03-31T02:30:00+01:00"', "It has no zone offset"),
        (pa.timestamp("us"), '"2024-03-31T02:30:00Z"', "It has no zone offset"),
        (pa.timestamp("us", "UTC"), '"2024-03-31T02:30:00"', "It has a zone offset such as Z"),
        (pa.timestamp("us"), '"2024-03-31T02:30:00.1234567"', "expected timestamp[us], got '2024"),
        (pa.timestamp("us"), "1711852200", "expected timestamp[us], got 1711852200"),
        (pa.timestamp("s"), '"2024-03-31T02:30:00.5"', "expected timestamp[s], got '2024-03-31T"),
        (pa.date32(), '"2024-02-30"', "expected date32[day], got '2024-02-30'"),
        (pa.date32(), "19800", "expected date32[day], got 19800"),
        (pa.string(), "1", "expected string, got 1"),
    ],
)
@pytest.mark.parametrize("where", ["top", "list", "object", "list of objects"])
def test_value_that_would_change_is_named_wherever_it_is(tmp_path, kind, value, problem, where):
    inner = pa.struct([("k", kind)])
    column, text, path = {
        "top": (kind, value, "v"),
        "list": (pa.list_(kind), f"[null, {value}]", "v"),
        "object": (inner, f'{{"k": {value}}}', "v.k"),
        "list of objects": (pa.list_(inner), f'[{{"k": {value}}}]', "v.k"),
    }[where]
    file = write_bytes(tmp_path / "0.jsonl", f'{{"v": null}}\n{{}}\n{{"v": {text}}}'.encode())
    with pytest.raises(CorruptFile, match=rf"line 3: column '{path}': ") as error:
        read(file, pa.schema([("v", column)]))
    assert problem in str(error.value)


def test_times_with_and_without_a_zone_are_read_wherever_they_are(tmp_path):
    at, day = '"2024-03-31T02:30:00+01:00"', '"2024-03-31"'
    line = f'{{"a": {at}, "l": [{at}, null], "o": {{"a": {at}, "d": {day}}}, "n": "0001-01-01"}}'
    path = write_bytes(tmp_path / "0.jsonl", f'{line}\n{{"o": null, "l": null}}\n'.encode())
    zoned = pa.timestamp("us", "UTC")
    inner = pa.struct([("a", zoned), ("d", pa.date32())])
    schema = pa.schema(
        [("a", zoned), ("l", pa.list_(zoned)), ("o", inner), ("n", pa.timestamp("us"))]
    )
    instant = datetime.datetime(2024, 3, 31, 1, 30, tzinfo=datetime.UTC)
    first, second = read(path, schema)
    assert first["a"] == instant
    assert first["l"] == [instant, None]
    assert first["o"] == {"a": instant, "d": datetime.date(2024, 3, 31)}
    assert first["n"].isoformat() == "0001-01-01T00:00:00"
    assert second == {"a": None, "l": None, "o": None, "n": None}


def test_number_that_float64_holds_is_read_however_large_it_is(tmp_path):
    values = ["9007199254740992", "9007199254740994", "1e300", "123456789012345678e-3", "0.1"]
    text = "".join(f'{{"x": {value}}}\n' for value in values)
    path = write_bytes(tmp_path / "0.jsonl", text.encode())
    assert [row["x"] for row in read(path, columns=["x"])] == [float(value) for value in values]


@pytest.mark.parametrize(
    ("later", "problem"),
    [
        (b'{"u": {"c": "x", "d": 1}, "q": 1}', "column 'u': .* got 'd' too"),
        (b'{"u": {"c": "x", "d": 1}, "q": 1}\n{"q": "two types"}', "column 'u': .* got 'd' too"),
        (b'{"l": [{"k": 1}, {"k": 2, "m": []}]}', "column 'l': .* got 'm' too"),
        (b'{"u": {"c": "x", "in": {"n": 1, "o": 2}}}', r"column 'u\.in': .* got 'o' too"),
    ],
)
def test_later_key_of_a_kept_object_is_an_error_and_never_left_out(tmp_path, later, problem):
    first = b'{"u": {"c": "x", "in": {"n": 1}}, "l": [{"k": 1}]}\n'
    path = write_bytes(tmp_path / "0.jsonl", first)
    schema = infer_jsonl(LOCAL, [str(path)], None)
    write_bytes(path, first + later)
    options = {"columns": ["u", "l"], "is_inferred": True}
    with pytest.raises(CorruptFile, match=rf"line 2: {problem}"):
        read(path, schema, **options)
    assert read(path, schema, columns=["u", "l"])  # a given schema lists the keys to keep
    options["columns"] = ["u.c"]
    assert read(path, schema, **options)[0]["u"] == {"c": "x", "in": {"n": 1}}
    # What is not kept, or is null, may be there.
    write_bytes(path, first + b'{"u": {"c": "y", "d": null}, "q": 1}\n{"q": "two types"}')
    assert [row["u"] and row["u"]["c"] for row in read(path, schema, is_inferred=True)] == [
        *("x", "y"),
        None,
    ]


def test_byte_order_mark_is_passed_over(tmp_path):
    path = write_bytes(tmp_path / "0.jsonl", b'\xef\xbb\xbf{"i": 1}\r\n\r\n{"i": 2}')
    assert describe_jsonl(LOCAL, DataFile(str(path), 3, 0), SCHEMA).is_whole
    assert infer_jsonl(LOCAL, [str(path)], None) == pa.schema([("i", pa.int64())])
    assert [row["i"] for row in read(path)] == [1, 2]


def test_damage_in_the_sample_is_named_if_nothing_else_can_be_sampled(tmp_path):
    with pytest.raises(ValueError, match=r"0\.jsonl cannot be read: line 2: .* at character 9"):
        infer(tmp_path, b'{"a": 1}\n{"a": 1,}\n')
    assert infer(tmp_path, b'{"a": 1}\n{"a": 1,}\n', b'{"a": 1}\n') == {"a": "int64"}
    assert infer(tmp_path, b"", b" \n\n") == {}
