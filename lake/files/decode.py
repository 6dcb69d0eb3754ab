"""Row groups of an open Parquet file → record batches, whatever their encodings and lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoreline.lake.files.columns import top_columns
from scoreline.lake.files.data_file import CorruptFile, ReadSpec
from scoreline.lake.files.footer import read_tail
from scoreline.lake.files.logical import true_schema
from scoreline.lake.files.memory import view_numbers
from scoreline.lake.files.stored import check_digits

# Arrow's own schema of a file, among the footer's metadata; the other key has the same length.
_ARROW_SCHEMA, _IGNORED = b"ARROW:schema", b"ARROW:nobody"


def open_file(
    source: Any,
    dictionaries: Sequence[str] = (),
    metadata: pq.FileMetaData | None = None,
    unit: str = "us",
) -> pq.ParquetFile:
    """Open a Parquet file.

    Timestamps of 96 bits, Spark's default, are read as microseconds: in nanoseconds, which are
    Arrow's default, years before 1678 and after 2262 become other years.
    """
    return pq.ParquetFile(
        source,
        metadata=metadata,
        read_dictionary=list(dictionaries),
        coerce_int96_timestamp_unit=unit,
        arrow_extensions_enabled=False,  # JSON is text here, and a UUID its 16 bytes
        # Pages of some writers have checksums.
        page_checksum_verification=True,
    )


class Decoder:
    """Decodes row groups of one file, and checks what Arrow leaves unchecked.

    Two things that Arrow refuses to read are read in another way. A column with encodings that it
    cannot read as a dictionary is read plainly. A column of fixed-size lists with nulls is read as
    lists of any size. Files that need neither cost nothing more.

    Attributes:
      file: the open file.
      schema: the types of its columns.
    """

    def __init__(self, source: Any, spec: ReadSpec) -> None:
        """Open a file to read the columns of a spec."""
        self._source, self._spec = source, spec
        self._dictionaries = spec.dictionary_columns
        self.file = self._reader = open_file(source, self._dictionaries)
        arrow_schema = self.file.schema_arrow
        self.schema = true_schema(self.file, arrow_schema)
        self._restores = self.schema is not arrow_schema
        self._has_plain_lists = False
        self._old_times = _find_old_times(self.file, arrow_schema, spec.stored)

    def decode(self, groups: range, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of row groups in order, in batches of at most some number of rows.

        Raises:
          CorruptFile: values are not of their type; the message names the column.
          OSError, ArrowException: the file cannot be decoded.
        """
        rows = 0
        while True:
            skip = rows
            try:
                for batch in self._read(groups, batch_rows):
                    if skip >= batch.num_rows:
                        skip -= batch.num_rows
                        continue
                    batch, skip = self._restore(batch.slice(skip)), 0
                    rows += batch.num_rows
                    _check_codes(batch)
                    yield batch
            except OSError as e:  # Arrow has no class of its own for it
                if not self._dictionaries or "Not yet implemented" not in str(e):
                    raise
                self._dictionaries = ()
            except pa.ArrowInvalid as e:
                if self._has_plain_lists or not _has_fixed_lists(self.file.schema_arrow, e):
                    raise
                self._has_plain_lists = True
            else:
                return
            self._reopen()

    def _read(self, groups: range, batch_rows: int) -> Iterator[pa.RecordBatch]:
        options = {"row_groups": groups, "use_threads": False}
        columns = list(self._spec.columns)
        batches = self._reader.iter_batches(batch_rows, columns=columns, **options)
        if not self._old_times:
            return batches
        file = open_file(self._source, metadata=self.file.metadata, unit="ns")
        exact = file.iter_batches(batch_rows, columns=self._old_times, **options)
        return _check_all_digits(batches, exact)

    def _reopen(self) -> None:
        metadata = self.file.metadata
        if self._has_plain_lists:
            tail = read_tail(self._source).replace(_ARROW_SCHEMA, _IGNORED)
            metadata = open_file(pa.BufferReader(tail)).metadata
        self._reader = open_file(self._source, self._dictionaries, metadata)

    def _restore(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch with the types of the schema; columns that are encoded stay so."""
        if not (self._restores or self._has_plain_lists):
            return batch
        columns = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            wanted = _part_of(self.schema.field(name).type, column.type)
            try:
                columns.append(_cast(column, wanted))
            except pa.ArrowException as e:
                raise CorruptFile(f"column '{name}': expected values of {wanted}: {e}") from e
        return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _find_old_times(file: pq.ParquetFile, schema: pa.Schema, stored: Sequence[str]) -> list[str]:
    """Return the columns to store that have timestamps of 96 bits."""
    tops = [name for name in top_columns(schema, stored) if name in schema.names] if stored else []
    if not any(_has_times(schema.field(name).type) for name in tops):
        return []
    leaves = [file.schema.column(number) for number in range(len(file.schema))]
    old = {leaf.path.partition(".")[0] for leaf in leaves if leaf.physical_type == "INT96"}
    return [name for name in tops if name in old]


def _has_times(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or (pa.types.is_nested(kind) and "timestamp" in str(kind))


def _check_all_digits(
    batches: Iterator[pa.RecordBatch], exact: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    for batch, nanos in zip(batches, exact, strict=True):
        check_digits(batch, nanos)
        yield batch


def _cast(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(column.type):
        return column.cast(wanted)
    if pa.types.is_dictionary(wanted):
        wanted = wanted.value_type
    return pa.DictionaryArray.from_arrays(column.indices, column.dictionary.cast(wanted))


def _part_of(wanted: pa.DataType, found: pa.DataType) -> pa.DataType:
    """Return a column's type without the fields of structs that were not read."""
    if isinstance(wanted, pa.OpaqueType):
        return found
    if pa.types.is_struct(wanted) and pa.types.is_struct(found):
        return pa.struct([f.with_type(_part_of(wanted.field(f.name).type, f.type)) for f in found])
    return wanted


def _has_fixed_lists(schema: pa.Schema, error: pa.ArrowInvalid) -> bool:
    return "fixed_size_list" in str(schema.types) and "size" in str(error)


def _check_codes(batch: pa.RecordBatch) -> None:
    """Check that the codes of dictionaries are within them: Arrow does not."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if not pa.types.is_dictionary(column.type):
            continue
        codes = column.indices
        codes = codes.drop_null() if codes.null_count else codes
        if not len(codes):
            continue
        values = view_numbers(codes)
        low, high = values.min(), values.max()
        if low < 0 or high >= len(column.dictionary):
            raise CorruptFile(
                f"column '{name}': expected codes below {len(column.dictionary)}, the size of its "
                f"dictionary, got {high if low >= 0 else low}. The file is damaged"
            )
