from __future__ import annotations

import pyarrow as pa
import pytest

from scoreline.lake.files.schema_file import parse_types, read_schema_file


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('"timestamp[us, tz=UTC]"', pa.timestamp("us", "UTC")),
        ('"timestamp[ms,tz=Europe/Paris]"', pa.timestamp("ms", "Europe/Paris")),
        ('"timestamp[ns, tz=+01:00]"', pa.timestamp("ns", "+01:00")),
        ('"list<timestamp[s, tz=UTC]>"', pa.list_(pa.timestamp("s", "UTC"))),
        ('{"at": "timestamp[us, tz=UTC]"}', pa.struct([("at", pa.timestamp("us", "UTC"))])),
        ('"timestamp[us]"', pa.timestamp("us")),
    ],
)
def test_timestamp_with_a_zone_is_a_type_wherever_it_is(text, kind):
    assert parse_types(f'{{"at": {text}}}').field("at").type == kind


@pytest.mark.parametrize("kind", ["timestamp[us, tz=Mars]", "timestamp[us, tz=]", "timestamp[h]"])
def test_zone_that_is_none_is_refused(kind):
    with pytest.raises(ValueError, match=r"column 'at': expected a type such as .* tz=UTC\] or"):
        parse_types(f'{{"at": "{kind}"}}')


@pytest.mark.parametrize("data_format", ["csv", "jsonl"])
@pytest.mark.parametrize("kind", ["halffloat", "null"])
def test_type_that_no_text_file_holds_is_refused_before_the_first_row(tmp_path, data_format, kind):
    (tmp_path / "types").write_text(f'{{"id": "int64", "x": "{kind}"}}')
    with pytest.raises(ValueError, match=rf"column 'x': {data_format} files hold no "):
        read_schema_file(str(tmp_path / "types"), data_format)


def test_byte_order_mark_of_a_schema_is_passed_over(tmp_path):
    path = tmp_path / "types.json"
    path.write_bytes(b'\xef\xbb\xbf{"x": "int8"}')
    assert read_schema_file(str(path), "jsonl") == pa.schema([("x", pa.int8())])


def test_lists_are_no_type_of_csv_and_times_none_of_json(tmp_path):
    path = tmp_path / "types"
    path.write_text('{"x": "list<int64>"}')
    assert read_schema_file(str(path), "jsonl").field("x").type == pa.list_(pa.int64())
    with pytest.raises(ValueError, match="column 'x': csv files hold no list<item: int64>"):
        read_schema_file(str(path), "csv")
    path.write_text('{"x": "time32[s]"}')
    assert read_schema_file(str(path), "csv").field("x").type == pa.time32("s")
    with pytest.raises(ValueError, match="column 'x': jsonl files hold no time32"):
        read_schema_file(str(path), "jsonl")


@pytest.mark.parametrize("data_format", ["csv", "jsonl"])
def test_all_types_of_text_files_are_types_of_the_schema(tmp_path, data_format):
    kinds = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 double bool string"
    kinds += " large_string binary date32 date64 timestamp[s] timestamp[ms] timestamp[ns]"
    (tmp_path / "types").write_text(
        "{" + ", ".join(f'"{kind}": "{kind}"' for kind in kinds.split()) + "}"
    )
    assert len(read_schema_file(str(tmp_path / "types"), data_format)) == len(kinds.split())
