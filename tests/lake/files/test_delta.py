from __future__ import annotations

import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from scoreline.lake.files.delta import is_delta_table, list_delta_partitions
from scoreline.lake.files.partitions import PartitionSpec

# The deletion vector in the example of the Delta protocol: rows 3, 4, 7, 11, 18 and 29.
DELETED = {
    "storageType": "i",
    "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
    "sizeInBytes": 40,
    "cardinality": 6,
}


def listing(root, *specs):
    return list_delta_partitions(str(root), [PartitionSpec(spec) for spec in specs])


def write_log(
    root, *, features=(), configuration=None, columns=("date",), deletion=None, physical="{}"
):
    """Write a table of one file by hand, with features that deltalake does not write."""
    (root / "_delta_log").mkdir(parents=True)
    (root / "date=1").mkdir()
    pq.write_table(pa.table({"id": range(40)}), root / "date=1/0.parquet")
    has_mapping = "columnMapping" in features
    fields = [
        {
            "name": name,
            "type": kind,
            "nullable": True,
            "metadata": (
                {
                    "delta.columnMapping.id": i,
                    "delta.columnMapping.physicalName": physical.format(name),
                }
                if has_mapping
                else {}
            ),
        }
        for i, (name, kind) in enumerate([("id", "long"), ("date", "string")])
    ]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7}
    add = {
        "path": "date=1/0.parquet",
        "partitionValues": {"date": "1"} if columns else {},
        "size": (root / "date=1/0.parquet").stat().st_size,
        "modificationTime": 5,
        "dataChange": True,
    }
    actions = [
        {"protocol": {**protocol, "readerFeatures": features, "writerFeatures": features}},
        {
            "metaData": {
                "id": "x",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps({"type": "struct", "fields": fields}),
                "partitionColumns": columns,
                "configuration": configuration or {},
                "createdTime": 1,
            }
        },
        {"add": {**add, "deletionVector": deletion} if deletion else add},
    ]
    text = "\n".join(map(json.dumps, actions))
    (root / "_delta_log" / "00000000000000000000.json").write_text(text)
    return root


def test_partitions_values_and_files_are_those_of_the_log(tmp_path):
    table = pa.table(
        {
            "id": range(4),
            "s": ["a/b", "ü %", "..", "c"],
            "n": [1, -2, 3, 3],
            "d": [datetime.date(2024, 1, 2)] * 4,
            "b": [True, False, True, True],
        }
    )
    write_deltalake(tmp_path, table, partition_by=["s", "n", "d", "b"])
    (tmp_path / "stray.parquet").write_bytes(b"")
    assert is_delta_table(str(tmp_path))
    found = listing(tmp_path)
    assert found.problems == []
    assert found.version == 0
    assert {p.values for p in found.partitions} == {
        (("s", "a/b"), ("n", "1"), ("d", "2024-01-02"), ("b", "true")),
        (("s", "ü %"), ("n", "-2"), ("d", "2024-01-02"), ("b", "false")),
        (("s", ".."), ("n", "3"), ("d", "2024-01-02"), ("b", "true")),
        (("s", "c"), ("n", "3"), ("d", "2024-01-02"), ("b", "true")),
    }
    for partition in found.partitions:
        (file,) = partition.files
        assert pq.ParquetFile(file.path).metadata.num_rows == 1
        assert file.size_bytes > 0
        assert file.mtime_ns > 0
    assert [p.values[1] for p in listing(tmp_path, "n=-2..2/b=true").partitions] == [("n", "1")]


def test_fingerprint_follows_the_log(tmp_path):
    table = pa.table({"id": [1, 2], "d": ["1", "2"]})
    write_deltalake(tmp_path, table, partition_by=["d"])
    before = {p.path: p.fingerprint for p in listing(tmp_path).partitions}
    write_deltalake(tmp_path, table.slice(0, 1), mode="append")
    after = {p.path: p.fingerprint for p in listing(tmp_path).partitions}
    assert listing(tmp_path).version == 1
    assert before["d=1"] != after["d=1"]
    assert before["d=2"] == after["d=2"]


def test_null_partition_is_its_own_problem(tmp_path):
    table = pa.table({"id": [1, 2], "d": ["1", None]})
    write_deltalake(tmp_path, table, partition_by=["d"])
    problems = {p.path: p.problems for p in listing(tmp_path).partitions}
    assert problems == {
        "d=1": (),
        "d=__HIVE_DEFAULT_PARTITION__": ("expected a value, got a null for partition column 'd'",),
    }


def test_hand_written_table_is_read_unless_it_uses_what_is_refused(tmp_path):
    root = write_log(tmp_path / "t", features=["deletionVectors", "timestampNtz"])
    found = listing(root)
    assert found.problems == []
    assert [p.path for p in found.partitions] == ["date=1"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"features": ["deletionVectors"], "deletion": DELETED},
            "without deletion vectors, got files with deleted rows in them. Rewrite them first",
        ),
        (
            {
                "features": ["columnMapping"],
                "configuration": {"delta.columnMapping.mode": "name"},
            },
            "expected a Delta table without column mapping, got mode 'name'",
        ),
        (
            {
                "features": ["columnMapping"],
                "configuration": {"delta.columnMapping.mode": "name"},
                "physical": "col-{}",
            },
            "If it has a feature that is not supported, copy it to a table without; else",
        ),
        ({"features": ["typeWidening"]}, "the Delta table uses typeWidening, which is not"),
        ({"features": ["fromTheFuture"]}, "cannot be read: "),
        ({"columns": ()}, "expected a Delta table with partition columns, got one without"),
    ],
)
def test_table_that_cannot_be_read_right_is_refused(tmp_path, table, message):
    found = listing(write_log(tmp_path / "t", **table))
    assert found.partitions == []
    (problem,) = found.problems
    assert problem.startswith("--input: ")
    assert message in problem


def test_partition_column_that_has_no_plain_text_is_refused(tmp_path):
    at = pa.array([datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)])
    write_deltalake(tmp_path, pa.table({"id": [1], "at": at}), partition_by=["at"])
    (problem,) = listing(tmp_path).problems
    assert "got 'at' as timestamp" in problem


def test_broken_log_is_a_problem(tmp_path):
    (tmp_path / "_delta_log").mkdir()
    (problem,) = listing(tmp_path).problems
    assert problem.startswith(f"--input: the Delta table {tmp_path} cannot be read: ")
