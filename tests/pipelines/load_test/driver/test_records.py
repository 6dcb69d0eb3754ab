import datetime as dt
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoreline.lake.files.tfrecord import masked_crc
from scoreline.pipelines.load_test.driver.records import read_file_values
from scoreline.pipelines.options.problems import BadOptions


def test_rows_of_parquet_become_json_with_the_columns_that_json_can_carry(tmp_path):
    table = pa.table(
        {
            "id": [1, 2],
            "name": pa.array(["a", None]).dictionary_encode(),
            "at": pa.array([dt.datetime(2026, 1, 2, tzinfo=dt.UTC)] * 2, pa.timestamp("us", "UTC")),
            "raw": [b"\xff", b"\x00"],
            "list": [[1.5], []],
        }
    )
    (tmp_path / "day=2026-01-02").mkdir()
    pq.write_table(table, tmp_path / "day=2026-01-02" / "part.parquet")
    (tmp_path / "_hidden").mkdir()
    pq.write_table(table, tmp_path / "_hidden" / "part.parquet")
    first, second = map(json.loads, read_file_values(str(tmp_path)))
    at = "2026-01-02T00:00:00+00:00"
    assert first == {"id": 1, "name": "a", "at": at, "list": [1.5], "day": "2026-01-02"}
    assert second == {**first, "id": 2, "name": None, "list": []}


def test_lines_are_values_as_they_are(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\r\n\n{"a":  2}')
    assert read_file_values(str(tmp_path / "a.jsonl")) == [b'{"a": 1}', b'{"a":  2}']


def test_records_of_tfrecord_are_values_as_they_are(tmp_path):
    def frame(data):
        length = len(data).to_bytes(8, "little")
        crcs = [masked_crc(part).to_bytes(4, "little") for part in (length, data)]
        return length + crcs[0] + data + crcs[1]

    path = tmp_path / "a.tfrecord.gz"
    path.write_bytes(gzip.compress(frame(b"one") + frame(b"")))
    assert read_file_values(str(path)) == [b"one", b""]


def test_only_so_many_values_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"1\n2\n3\n")
    assert read_file_values(str(tmp_path), limit=2) == [b"1", b"2"]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "expected .parquet, .jsonl or .tfrecord files, found none"),
        ({"a.csv": b"1"}, "expected .parquet, .jsonl or .tfrecord files, found none"),
        ({"a.jsonl": b"\n"}, "expected rows, got none"),
        ({"a.parquet": b"PAR1"}, "records: cannot read"),
        ({"a.tfrecord": b"\x01\x02"}, "records: cannot read"),
    ],
)
def test_files_without_records_are_refused(tmp_path, files, problem):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(BadOptions, match=problem):
        read_file_values(str(tmp_path))
