"""TFRecord files of tf.Examples → record batches.

tfx-bsl decodes the tf.Examples. It is imported when the first one is decoded, and does not import
TensorFlow.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from scoreline.lake.files.data_file import (
    HEAD_BYTES,
    READ_ERRORS,
    CorruptFile,
    DataFile,
    Footer,
    ReadSpec,
    open_stream,
    unreadable,
    whole_file,
)
from scoreline.lake.files.tfrecord import Record, RecordTooLarge, read_records

# The column of the serialized records, for models that parse tf.Examples themselves.
RAW_COLUMN = "_example"
# Records of each sampled file from which features are inferred.
SAMPLE_RECORDS = 1000
_SAMPLE_BYTES = 8 << 20
_BATCH_BYTES = 16 << 20
_EXAMPLE_TAG = b"\n"  # field 1, of bytes: the only field that a tf.Example has
_STORED_AS = {"int64": "INT", "float": "FLOAT", "large_binary": "BYTES"}
_WRONG_TYPE = re.compile(r'expected (\w+)_list, found (\w+)_list for feature "(.*)"')


def describe_tfrecords(file_system: fs.FileSystem, file: DataFile, schema: pa.Schema) -> Footer:
    """Return the footer of a TFRecord file, whose first record must be a tf.Example."""
    try:
        with open_stream(file_system, file.path) as stream:
            for record in itertools.islice(read_records(stream, HEAD_BYTES), 1):
                _check_example(record, file.path)
    except RecordTooLarge:  # only the reader knows the maximum size of a record
        return whole_file(file, schema)
    except READ_ERRORS as e:
        return unreadable(file.path, e)
    return whole_file(file, schema)


def infer_examples(
    file_system: fs.FileSystem, paths: Sequence[str], given: pa.Schema | None
) -> pa.Schema:
    """Infer the columns of some files from the features in their first records, sorted by name.

    A feature that never has more or fewer than one value becomes a plain column. Any other becomes
    a column of lists. Damaged files are skipped here: they fail their partitions.

    Args:
      file_system: where the files are.
      paths: the files; the first `SAMPLE_RECORDS` records of each are sampled.
      given: the schema that the user gave; then the files only have to hold tf.Examples.

    Raises:
      ValueError: a record is not a tf.Example, or a feature has two types.
    """
    found: dict[str, pa.DataType] = {}
    first_seen: dict[str, str] = {}
    sampled = 0
    for path in paths:
        records = _read_sample(file_system, path)
        sampled += len(records)
        for name, kind in _features_of(records, path, given is not None).items():
            known = found.get(name, kind)
            if _leaf(known) != _leaf(kind):
                raise ValueError(
                    f"feature '{name}' is {_leaf(known)} in {first_seen[name]} and {_leaf(kind)} "
                    f"in {path}. Write it with one type, or leave it out with --schema"
                )
            first_seen.setdefault(name, path)
            found[name] = known if known == kind else pa.large_list(_leaf(kind))
    if given is not None:
        return given
    if sampled and not found:
        raise ValueError(f"no record of {', '.join(paths)} is a tf.Example with features")
    return pa.schema(sorted(found.items()))


def _read_sample(file_system: fs.FileSystem, path: str) -> list[Record]:
    records: list[Record] = []
    size = 0
    try:
        with open_stream(file_system, path) as stream:
            for record in itertools.islice(read_records(stream), SAMPLE_RECORDS):
                records.append(record)
                size += len(record.data)
                if size > _SAMPLE_BYTES:
                    break
    except READ_ERRORS:
        pass  # describing the file reports it, and fails the partition
    for record in records:
        _check_example(record, path)
    return records


def _features_of(records: Sequence[Record], path: str, has_types: bool) -> dict[str, pa.DataType]:
    """Return the features of sampled records; none if the user gave the types."""
    if not records:
        return {}
    decoder = ExamplesDecoder(None)
    try:
        batch = decoder.decode([record.data for record in records])
    except RuntimeError as e:
        for record in records:
            try:
                decoder.decode([record.data])
            except RuntimeError:
                raise ValueError(_describe_other(path, record.offset)) from e
        if has_types:
            return {}
        raise ValueError(
            f"the features of {path} have no one type each: {e}. Say types with --schema"
        ) from e
    if has_types:
        return {}
    return {
        name: column.type.value_type if _has_one_value(column) else column.type
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        if not pa.types.is_null(column.type)
    }


def _has_one_value(column: pa.Array) -> bool:
    lengths = pc.min_max(pc.list_value_length(column)).as_py()
    return lengths["min"] == lengths["max"] == 1


def _leaf(data_type: pa.DataType) -> pa.DataType:
    return data_type.value_type if pa.types.is_large_list(data_type) else data_type


def _check_example(record: Record, path: str) -> None:
    """Raise ValueError unless a record's outermost fields are those of a tf.Example."""
    data, at = record.data, 0
    try:
        while at < len(data) and data[at : at + 1] == _EXAMPLE_TAG:
            length, at = _read_varint(data, at + 1)
            at += length
    except IndexError:
        at = -1
    if at != len(data):
        raise ValueError(_describe_other(path, record.offset))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _describe_other(path: str, offset: int) -> str:
    return (
        f"expected a TFRecord of tf.Examples, got another kind of record at byte {offset} of "
        f"{path}. SequenceExamples and other messages cannot be read; write tf.Examples, or "
        "Parquet with the records as a binary column"
    )


def read_examples(
    file_system: fs.FileSystem, path: str, spec: ReadSpec
) -> Iterator[pa.RecordBatch]:
    """Yield the records of a TFRecord file, in order, as the columns of `spec.schema`.

    A feature that a record lacks is null. `RAW_COLUMN` is the record itself.

    Raises:
      CorruptFile: a record is damaged, is no tf.Example, or breaks the schema; names file, record
        (from 0) and byte.
    """
    fields = [spec.schema.field(name) for name in spec.columns if name in spec.schema.names]
    features = [field for field in fields if field.name != RAW_COLUMN]
    unseen = [_as_stored(field) for field in spec.unseen if field.name in spec.columns]
    features += unseen
    decode = ExamplesDecoder(features) if features else None
    first = 0
    with open_stream(file_system, path) as stream:
        for records in _gather(stream, path, spec):
            data = [record.data for record in records]
            columns: Mapping[str, pa.Array] = {}
            if decode:
                columns = _decode(decode, features, records, first, path)
                _refuse_unseen({f.name: columns[f.name] for f in unseen}, first, path)
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(data, pa.large_binary()) if f.name == RAW_COLUMN else columns[f.name]
                    for f in fields
                ],
                [field.name for field in fields],
            )
            first += len(records)


def _as_stored(field: pa.Field) -> pa.Field:
    """Return the feature that could hold a column's values."""
    is_number = pa.types.is_integer(field.type), pa.types.is_floating(field.type)
    kind = {(True, False): pa.int64(), (False, True): pa.float32()}.get(is_number)
    return pa.field(field.name, pa.large_list(kind or pa.large_binary()))


def _refuse_unseen(columns: Mapping[str, pa.Array], first: int, path: str) -> None:
    """Raise CorruptFile if a record has a feature for which the user gave a value."""
    for name, column in columns.items():
        if column.null_count < len(column):
            row = pc.index(pc.is_valid(column), True).as_py()
            raise CorruptFile(
                f"file {path} cannot be read: record {first + row} has feature '{name}', which the "
                "first files lack. Add it to --schema"
            )


def _gather(stream: Any, path: str, spec: ReadSpec) -> Iterator[list[Record]]:
    """Yield batches, and the records before a damaged one: a batch is not read twice."""
    records: list[Record] = []
    size = 0
    max_bytes = min(_BATCH_BYTES, spec.limits.batch_bytes)
    try:
        for record in read_records(stream, max_bytes=spec.limits.value_bytes):
            records.append(record)
            size += len(record.data)
            if len(records) >= spec.batch_rows or size >= max_bytes:
                yield records
                records, size = [], 0
    except CorruptFile as e:
        raise CorruptFile(f"file {path} cannot be read: {e}") from e
    if records:
        yield records


class ExamplesDecoder:
    """tfx-bsl's decoder of tf.Examples.

    After an error it keeps half of the bad record, and fails or mixes up all later records. So a
    decoder that raised is made anew.
    """

    def __init__(self, features: Sequence[pa.Field] | None) -> None:
        """Set the features to decode; None decodes all, with the types that the records have."""
        self._schema = None if features is None else _to_schema(features)
        self._decoder = self._make()

    def _make(self) -> Any:
        from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

        return ExamplesToRecordBatchDecoder(*(() if self._schema is None else (self._schema,)))

    def decode(self, records: Sequence[bytes]) -> pa.RecordBatch:
        """Return a column of lists for each feature.

        Raises:
          RuntimeError: a record is not a tf.Example, or a feature has another type.
        """
        try:
            return self._decoder.DecodeBatch(records)
        except RuntimeError:
            self._decoder = self._make()
            raise


def _to_schema(features: Sequence[pa.Field]) -> bytes:
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = schema_pb2.Schema()
    for field in features:
        kind = schema_pb2.FeatureType.Value(_STORED_AS[str(_leaf(field.type))])
        schema.feature.add(name=field.name, type=kind)
    serialized: bytes = schema.SerializeToString()
    return serialized


class BadExample(ValueError):
    """A record that is not a tf.Example of the schema; the message describes it.

    Attributes:
      row: its position among the records to decode.
    """

    def __init__(self, row: int, problem: str) -> None:
        """Keep the row."""
        super().__init__(problem)
        self.row = row


def decode_examples(
    decoder: ExamplesDecoder, features: Sequence[pa.Field], records: Sequence[bytes]
) -> dict[str, pa.Array]:
    """Return a column for each feature.

    Raises:
      BadExample: a record is not a tf.Example, or does not fit the schema.
    """
    for row, record in enumerate(records):
        if record[:1] not in (_EXAMPLE_TAG, b""):
            raise BadExample(row, "is no tf.Example")
    try:
        batch = decoder.decode(records)
    except RuntimeError:
        for row, record in enumerate(records):
            try:
                decoder.decode([record])
            except RuntimeError as e:
                raise BadExample(row, f"does not fit the schema: {_explain(e)}") from e
        raise
    columns = {}
    for field in features:
        column = batch.column(field.name)
        if not pa.types.is_large_list(field.type):
            lengths = pc.list_value_length(column)
            wrong = pc.indices_nonzero(pc.not_equal(lengths, 1))
            if len(wrong):
                row = wrong[0].as_py()
                raise BadExample(
                    row,
                    f"has {lengths[row]} values of feature '{field.name}'; expected exactly one, "
                    "as the schema says. Leave its shape out of a --schema to read lists",
                )
            column = pc.list_element(column, 0) if column.null_count else column.flatten()
        columns[field.name] = column
    return columns


def _explain(error: RuntimeError) -> str:
    """Return the reason why a single record cannot be decoded, without tfx-bsl's status codes."""
    found = _WRONG_TYPE.search(str(error))
    if found:
        return f"feature '{found[3]}': expected {found[1]} values, got {found[2]}"
    return f"it is no tf.Example, or was cut off: {error}"


def _decode(
    decoder: ExamplesDecoder,
    features: Sequence[pa.Field],
    records: Sequence[Record],
    first: int,
    path: str,
) -> dict[str, pa.Array]:
    try:
        return decode_examples(decoder, features, [record.data for record in records])
    except BadExample as e:
        where = f"record {first + e.row} at byte {records[e.row].offset}"
        raise CorruptFile(f"file {path} cannot be read: {where} {e}") from e
