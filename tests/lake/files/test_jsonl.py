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
from scoreline.lake.files.jsonl import describe_jsonl, infer_jsonl, read_jsonl
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
    before = jsonl._BLOCK_BYTES
    jsonl._read_blocks.__defaults__ = (block_bytes,)
    try:
        assert read(path) == rows
    finally:
        jsonl._read_blocks.__defaults__ = (before,)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"i": 1.5}', "Failed to convert JSON to int64, couldn't parse:1.5"),
        (b'{"i": 12345678901234567890}', "Failed to convert JSON to int64"),
        (b'{"i": "1"}', "changed from number to string"),
        (b'{"s": 1}', "changed from string to number"),
        (b'{"i": 1, "i": 2}', "was specified twice"),
        (b'{"i": 1', "Missing a comma or '}'"),
        (b"[1]", "changed from object to array"),
        (b'{"s": "\xff"}', "expected UTF-8"),
    ],
)
def test_line_that_does_not_fit_is_named_and_never_a_null(tmp_path, line, problem):
    lines = [b'{"i": 1}', b"", b'{"i": 2, "other": [1]}', line, b'{"i": 3}']
    path = write_bytes(tmp_path / "0.jsonl", b"\n".join(lines))
    with pytest.raises(CorruptFile, match=r"0\.jsonl cannot be read: line 4: ") as error:
        read(path)
    assert problem in str(error.value)


def test_lines_are_counted_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl._read_blocks, "__defaults__", (64,))
    lines = [b'{"i": %d}' % i for i in range(100)] + [b"\n\n{}", b"oops"]
    path = write_bytes(tmp_path / "0.jsonl", b"\n".join(lines))
    with pytest.raises(CorruptFile, match=r"line 104: JSON parse error"):
        read(path)


def test_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl._read_blocks, "__defaults__", (10,))
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
    with pytest.raises(ValueError, match=r"changed from number to string .* Say types with"):
        infer(tmp_path, b'{"a": 1}\n{"a": "x"}\n')
    with pytest.raises(ValueError, match=r"1\.jsonl has other types than .*0\.jsonl: .*'?a'?"):
        infer(tmp_path, b'{"a": 1}\n', b'{"a": "x"}\n')
    with pytest.raises(ValueError, match=r"'a' has whole numbers that no float64 holds"):
        infer(tmp_path, b'{"a": 12345678901234567890}\n')
