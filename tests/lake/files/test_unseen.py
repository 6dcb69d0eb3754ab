"""A later file has a column that the sampled files lack, and for which the user gave a value."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pyarrow import fs

from scoreline.lake.elements import Piece, Shard
from scoreline.lake.files.data_file import CorruptFile
from scoreline.lake.files.formats import FORMATS
from scoreline.lake.files.missing import Constant
from scoreline.lake.files.read import DatasetSpec, read_shard
from tests.inputs import to_csv, to_examples, to_jsonl, write_bytes, write_tfrecord

LOCAL = fs.LocalFileSystem()


def write(path, rows, suffix):
    if suffix == "tfrecord":
        return write_tfrecord(path, to_examples(rows))
    return write_bytes(path, to_csv(rows) if suffix == "csv" else to_jsonl(rows))


@pytest.fixture(params=["csv", "jsonl", "tfrecord"])
def read_later(request, tmp_path):
    """Return a function that reads a later file, with the schema of the first."""
    suffix = request.param
    first = write(tmp_path / f"0.{suffix}", pa.table({"i": [1]}), suffix)

    def read(rows):
        schema = FORMATS[suffix].infer(LOCAL, [str(first)], None)
        file = write(tmp_path / f"1.{suffix}", rows, suffix)
        piece = Piece(str(file), 0, 1, 0, -1, file.stat().st_size)
        shard = Shard("date=2024-01-01", "run", "", 0, 1, [piece], -1)
        dataset = DatasetSpec(
            root=str(tmp_path),
            format=suffix,
            columns=["i", "w"],
            top_columns=["i", "w"],
            batch_rows=10,
            schema=schema,
            constants=[Constant("w", pa.int64(), "7")],
            is_inferred=True,
        )
        return [row for batch in read_shard(LOCAL, shard, dataset) for row in batch.to_pylist()]

    return suffix, read


def test_its_values_are_never_replaced_in_silence(read_later):
    suffix, read = read_later
    rows = pa.table({"i": [2, 3], "w": [None, 4]})
    if suffix == "csv":
        assert read(rows) == rows.to_pylist()
        return
    where = "line 2: column 'w': expected null" if suffix == "jsonl" else "record 1 has feature 'w'"
    with pytest.raises(CorruptFile, match=where):
        read(rows)


def test_a_file_that_lacks_it_has_the_value_of_the_user(read_later):
    _, read = read_later
    assert read(pa.table({"i": [2, 3]})) == [{"i": 2, "w": 7}, {"i": 3, "w": 7}]
