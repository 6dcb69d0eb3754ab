from __future__ import annotations

import gzip
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from scoreline.lake.files.data_file import CorruptFile, DataFile, ReadSpec
from scoreline.lake.files.examples import (
    RAW_COLUMN,
    describe_tfrecords,
    infer_examples,
    read_examples,
)
from tests.fakes import ROOT, make_rows
from tests.inputs import frame, to_examples, write_bytes, write_tfrecord

LOCAL = fs.LocalFileSystem()


def read(path, columns, schema, batch_rows=10):
    spec = ReadSpec(columns, batch_rows, schema=schema.append(pa.field(RAW_COLUMN, "large_binary")))
    return list(read_examples(LOCAL, str(path), spec))


@pytest.mark.parametrize("suffix", ["tfrecord", "tfrecord.gz"])
def test_rows_come_back_as_they_were_with_scalars_where_each_row_has_one_value(tmp_path, suffix):
    rows = make_rows(0, 25).append_column(
        "l", pa.array([[1, 2]] * 24 + [None], pa.list_(pa.int64()))
    )
    records = to_examples(rows)
    path = write_tfrecord(tmp_path / f"0.{suffix}", records)
    schema = infer_examples(LOCAL, [str(path)], None)
    assert {field.name: str(field.type) for field in schema} == {
        "id": "int64",
        "l": "large_list<item: int64>",
        "n": "int64",
        "s": "large_binary",
        "unread": "large_binary",
        "x": "float",
    }
    batches = read(path, ["s", "id", "x", "l", RAW_COLUMN], schema)
    assert [batch.num_rows for batch in batches] == [10, 10, 5]
    assert batches[0].schema.names == ["s", "id", "x", "l", RAW_COLUMN]
    table = pa.Table.from_batches(batches)
    assert table["id"].to_pylist() == list(range(25))
    assert table["s"].to_pylist() == [s.encode() for s in rows["s"].to_pylist()]
    assert table["x"].to_pylist() == rows["x"].to_pylist()
    assert table["l"].to_pylist() == [[1, 2]] * 24 + [None]
    assert table[RAW_COLUMN].to_pylist() == records


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_scalars_keep_their_nulls_in_place(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("nulls") / "0.tfrecord"
    write_tfrecord(path, to_examples(pa.table({"n": pa.array(values, pa.int64())})))
    batches = read(path, ["n"], pa.schema([("n", pa.int64())]))
    assert [n for batch in batches for n in batch["n"].to_pylist()] == values


def test_row_with_several_values_of_a_scalar_names_file_record_and_byte(tmp_path):
    one, two = (
        to_examples(pa.table({"n": pa.array([v], pa.list_(pa.int64()))})) for v in ([1], [1, 2])
    )
    path = write_tfrecord(tmp_path / "0.tfrecord", [*one * 12, *two])
    offset = len(frame(one[0])) * 12
    message = rf"0\.tfrecord cannot be read: record 12 at byte {offset} has 2 values of feature 'n'"
    with pytest.raises(CorruptFile, match=message):
        read(path, ["n"], pa.schema([("n", pa.int64())]))


def test_record_of_another_type_names_file_record_and_byte(tmp_path):
    good = to_examples(pa.table({"n": pa.array([1])}))
    bad = to_examples(pa.table({"n": pa.array(["a"])}))
    path = write_tfrecord(tmp_path / "0.tfrecord", [*good * 3, *bad])
    offset = len(frame(good[0])) * 3
    with pytest.raises(CorruptFile, match=rf"record 3 at byte {offset} does not fit the schema: "):
        read(path, ["n"], pa.schema([("n", pa.int64())]))
    with pytest.raises(ValueError, match=r"the features of .*0\.tfrecord have no one type each"):
        infer_examples(LOCAL, [str(path)], None)


def test_the_record_of_another_type_is_named_also_where_a_sound_one_comes_first(tmp_path):
    """After an error, tfx-bsl's decoder also fails on sound records."""
    good = to_examples(pa.table({"a": [1], "x": [0.5]}))
    bad = to_examples(pa.table({"a": [1], "x": [2]}))
    path = write_tfrecord(tmp_path / "0.tfrecord", [*good * 5, *bad, *good * 5])
    schema = pa.schema([("a", pa.int64()), ("x", pa.float32())])
    reason = (
        r"record 5 at byte \d+ does not fit the schema: feature 'x': expected float values, got"
    )
    with pytest.raises(CorruptFile, match=reason):
        read(path, ["a", "x"], schema, batch_rows=100)
    with pytest.raises(ValueError, match="have no one type each"):
        infer_examples(LOCAL, [str(path)], None)
    assert infer_examples(LOCAL, [str(path)], schema) == schema


def test_feature_of_two_types_in_two_files_is_refused(tmp_path):
    paths = [
        str(write_tfrecord(tmp_path / f"{i}.tfrecord", to_examples(pa.table({"n": column}))))
        for i, column in enumerate([pa.array([1]), pa.array(["a"])])
    ]
    with pytest.raises(ValueError, match=r"feature 'n' is int64 in .*0\.tfrecord and large_binary"):
        infer_examples(LOCAL, paths, None)


def sequence_example():
    from scoreline.models.runtimes.tensorflow import import_tensorflow

    tf = import_tensorflow()
    step = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
    lists = tf.train.FeatureLists(feature_list={"n": tf.train.FeatureList(feature=[step])})
    return tf.train.SequenceExample(feature_lists=lists).SerializeToString()


@pytest.mark.parametrize("record", [b"hello", b'{"id": 1}', b"\x12\x00", b"\n\x05a", None])
def test_records_that_are_no_examples_are_refused(tmp_path, record):
    path = write_tfrecord(tmp_path / "0.tfrecord", [record or sequence_example()])
    for given_schema in (None, pa.schema([("n", pa.int64())])):
        with pytest.raises(
            ValueError, match=r"expected a TFRecord of tf\.Examples, got another kind of record at"
        ):
            infer_examples(LOCAL, [str(path)], given_schema)
    footer = describe_tfrecords(LOCAL, DataFile(str(path), 1, 0), pa.schema([]))
    assert f"file {path} cannot be read: expected a TFRecord of tf.Examples" in footer.error


@pytest.mark.parametrize("given_schema", [None, pa.schema([("n", pa.int64())])])
def test_message_that_only_looks_like_an_example_is_refused(tmp_path, given_schema):
    good = to_examples(pa.table({"n": pa.array([1])}))
    path = write_tfrecord(tmp_path / "0.tfrecord", [*good, b"\n\x05hello"])
    with pytest.raises(ValueError, match=rf"another kind of record at byte {len(frame(good[0]))} "):
        infer_examples(LOCAL, [str(path)], given_schema)


def test_record_that_is_no_example_further_on_is_found(tmp_path):
    good = to_examples(pa.table({"n": pa.array([1])}))
    path = write_tfrecord(tmp_path / "0.tfrecord", [*good, b"other"])
    with pytest.raises(CorruptFile, match=r"record 1 at byte \d+ is no tf\.Example"):
        read(path, ["n"], pa.schema([("n", pa.int64())]))


def test_truncated_gzip_names_the_file_and_a_byte(tmp_path):
    path = write_tfrecord(tmp_path / "0.tfrecord.gz", to_examples(make_rows(0, 500)))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptFile, match=r"0\.tfrecord\.gz cannot be read: after byte \d+: "):
        read(path, ["id"], pa.schema([("id", pa.int64())]))


@pytest.mark.parametrize("name", ["1.tfrecord", "1.tfrecord.gz-00000-of-00001"])
def test_compressed_file_whose_name_does_not_show_it_is_named(tmp_path, name):
    path = write_bytes(tmp_path / name, gzip.compress(frame(b"abc")))
    footer = describe_tfrecords(LOCAL, DataFile(str(path), 1, 0), pa.schema([]))
    assert f"{name} cannot be read: expected TFRecord, got gzip data; add .gz" in footer.error


def test_file_that_is_not_compressed_in_spite_of_its_name_is_named(tmp_path):
    path = tmp_path / "1.tfrecord.gz"
    path.write_bytes(frame(b"abc"))
    footer = describe_tfrecords(LOCAL, DataFile(str(path), 1, 0), pa.schema([]))
    assert "or it is not compressed, though its name ends in .gz" in footer.error


def test_damaged_files_are_passed_over_by_inference(tmp_path):
    good = write_tfrecord(tmp_path / "1.tfrecord", to_examples(pa.table({"n": pa.array([1])})))
    bad = write_bytes(tmp_path / "0.tfrecord", b"nothing like a record")
    assert infer_examples(LOCAL, [str(bad), str(good)], None).names == ["n"]


def test_reading_imports_no_tensorflow(tmp_path):
    path = write_tfrecord(tmp_path / "0.tfrecord", to_examples(make_rows(0, 3)))
    code = f"""
import sys
from pyarrow import fs
from scoreline.lake.files.data_file import ReadSpec
from scoreline.lake.files.examples import infer_examples, read_examples
local = fs.LocalFileSystem()
schema = infer_examples(local, [{str(path)!r}], None)
(batch,) = read_examples(local, {str(path)!r}, ReadSpec(["id"], 9, schema=schema))
print(batch.num_rows, [m for m in ("tensorflow", "keras") if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "3 []"
