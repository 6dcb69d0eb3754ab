"""Row groups of an open Parquet file → record batches, whatever their encodings and lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoreline.lake.files.data_file import CorruptFile, ReadSpec
from scoreline.lake.files.footer import read_tail

# Arrow's own schema of a file, among the footer's metadata; the other key has the same length.
_ARROW_SCHEMA, _IGNORED = b"ARROW:schema", b"ARROW:nobody"


def open_file(
    source: Any, dictionaries: Sequence[str] = (), metadata: pq.FileMetaData | None = None
) -> pq.ParquetFile:
    """Open a Parquet file.

    Timestamps of 96 bits, Spark's default, are read as microseconds: in Arrow's nanoseconds, years
    before 1678 and after 2262 become other years.
    """
    return pq.ParquetFile(
        source,
        metadata=metadata,
        read_dictionary=list(dictionaries),
        coerce_int96_timestamp_unit="us",
        # Pages of some writers have checksums.
        page_checksum_verification=True,
    )


class Decoder:
    """Decodes row groups of one file.

    Two things that Arrow refuses to read are read in another way. A column with encodings that it
    cannot read as a dictionary is read plainly. A column of fixed-size lists with nulls is read as
    lists of any size. Files that need neither cost nothing more.

    Attributes:
      file: the open file.
    """

    def __init__(self, source: Any, spec: ReadSpec) -> None:
        """Open a file to read the columns of a spec."""
        self._source, self._spec = source, spec
        self._dictionaries = spec.dictionary_columns
        self.file = self._reader = open_file(source, self._dictionaries)
        self._has_plain_lists = False

    def decode(self, groups: range, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of row groups in order, in batches of at most some number of rows."""
        rows = 0
        while True:
            skip = rows
            try:
                for batch in self._reader.iter_batches(
                    batch_rows,
                    row_groups=groups,
                    columns=list(self._spec.columns),
                    use_threads=False,
                ):
                    if skip >= batch.num_rows:
                        skip -= batch.num_rows
                        continue
                    batch, skip = self._restore(batch.slice(skip)), 0
                    rows += batch.num_rows
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

    def _reopen(self) -> None:
        metadata = self.file.metadata
        if self._has_plain_lists:
            tail = read_tail(self._source).replace(_ARROW_SCHEMA, _IGNORED)
            metadata = open_file(pa.BufferReader(tail)).metadata
        self._reader = open_file(self._source, self._dictionaries, metadata)

    def _restore(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch with the types of the file's schema."""
        if not self._has_plain_lists:
            return batch
        columns = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            wanted = self.file.schema_arrow.field(name).type
            is_encoded = pa.types.is_dictionary(column.type)
            try:
                columns.append(column if is_encoded else column.cast(wanted))
            except pa.ArrowException as e:
                raise CorruptFile(f"column '{name}': expected values of {wanted}: {e}") from e
        return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _has_fixed_lists(schema: pa.Schema, error: pa.ArrowInvalid) -> bool:
    return "fixed_size_list" in str(schema.types) and "size" in str(error)
