"""How much a file may decode to: rows that fit in a batch, and values that are too large.

A Parquet file of a few hundred bytes can hold many gigabytes: a dictionary stores a long value
once, and a run of indices repeats it. Therefore the size of batches follows from the maximum that a
row group can decode to, computed before any of it is decoded, not from the size of the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoreline.lake.files.data_file import CorruptFile, Limits, ReadSpec
from scoreline.lake.files.footer import Chunk, read_chunks, read_tail

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8}
_DECIMAL_BYTES = 16
_OFFSET_BYTES = 8
# Columns below this share of the limit are not examined further.
_SMALL_PART = 16
# If lists decode to more than this multiple of their encoded size, one row may hold all of them.
_MAX_EXPANSION = 100
_PROBE_BUFFER_BYTES = 64 << 10
# Encodings of a chunk whose texts are all stored one by one, and of one with a dictionary. Arrow
# cannot read a chunk with other encodings as a dictionary, not even one that has it too.
_STORED_IN_PAGES = frozenset({"PLAIN", "RLE", "BIT_PACKED"})
_STORED_ONE_BY_ONE = _STORED_IN_PAGES | {"DELTA_LENGTH_BYTE_ARRAY"}
_DICTIONARY = frozenset({"PLAIN_DICTIONARY", "RLE_DICTIONARY"})


@dataclasses.dataclass
class _Bound:
    """Maximum decoded bytes: a part for each row, and a part that any single row may hold."""

    row_bytes: int = 0
    spread_bytes: int = 0
    rows: int = 0

    def rows_within(self, batch_rows: int, limit: int) -> int:
        """Return how many rows to decode at once.

        If most bytes may belong to one row, this is a guess from the mean, and the caller must
        check the size of the result.
        """
        if self.spread_bytes + batch_rows * self.row_bytes <= limit:
            return batch_rows
        if self.spread_bytes <= limit // 2:
            return max(1, (limit - self.spread_bytes) // self.row_bytes)
        mean = self.row_bytes + self.spread_bytes // max(self.rows, 1)
        return min(batch_rows, max(1, limit // 4 // max(mean, 1)))


class RowGroups(NamedTuple):
    """Row groups to decode together, and the rows of a batch."""

    numbers: range
    batch_rows: int


def plan_batches(
    source: Any,
    file: pq.ParquetFile,
    numbers: range,
    spec: ReadSpec,
) -> Iterator[RowGroups]:
    """Yield the row groups to decode, and how many rows at once.

    Args:
      source: the open file; dictionaries of some columns may be read from it.
      file: its footer.
      numbers: the row groups.
      spec: which columns will be read, within which limits.

    Raises:
      CorruptFile: the values of a row group are, or may be, larger than the limits.
      ValueError: the footer is damaged.
    """
    batch_rows, limits = spec.batch_rows, spec.limits
    leaves = find_leaves(file, spec.columns)
    chunks = _chunks_to_weigh(source, file, numbers, leaves, spec)
    bounds = [
        _bound_group(source, file, number, leaves, chunks.get(number, {}), spec)
        for number in numbers
    ]
    whole = _Bound(
        max((b.row_bytes for b in bounds), default=0),
        sum(b.spread_bytes for b in bounds),
        sum(b.rows for b in bounds),
    )
    if whole.spread_bytes + min(batch_rows, whole.rows) * whole.row_bytes <= limits.batch_bytes:
        yield RowGroups(numbers, batch_rows)
        return
    for number, bound in zip(numbers, bounds, strict=True):
        one = range(number, number + 1)
        yield RowGroups(one, bound.rows_within(batch_rows, limits.batch_bytes))


class Leaf(NamedTuple):
    """A column of Parquet's schema that holds values.

    Attributes:
      number: its number in the schema.
      path: its path, which also names the insides of lists.
      width: the bytes of a value; 0 for text, whose values have any length.
      is_list: whether a row may have several values.
    """

    number: int
    path: str
    width: int
    is_list: bool


def find_leaves(file: pq.ParquetFile, columns: Sequence[str]) -> list[Leaf]:
    """Return the leaves of some columns."""
    leaves = []
    names, parents = set(columns), tuple(f"{name}." for name in columns)
    schema = file.schema
    for number in range(len(schema)):
        leaf = schema.column(number)
        path = leaf.path
        if path in names or path.startswith(parents):
            kind = leaf.physical_type
            width = 0
            if kind != "BYTE_ARRAY":
                width = _WIDTHS.get(kind) or max(leaf.length, _DECIMAL_BYTES)
            leaves.append(Leaf(number, path, width, leaf.max_repetition_level > 0))
    return leaves


def _chunks_to_weigh(
    source: Any, file: pq.ParquetFile, numbers: range, leaves: Sequence[Leaf], spec: ReadSpec
) -> dict[int, Mapping[int, Chunk]]:
    """Return facts about the column chunks whose decoded size does not follow from the schema."""
    unclear = {
        leaf.number
        for leaf in leaves
        if leaf.is_list or not (leaf.width or leaf.path in spec.dictionary_columns)
    }
    groups = {n for n in numbers if not _is_small(file.metadata.row_group(n), leaves, spec)}
    return read_chunks(read_tail(source), groups, unclear) if unclear and groups else {}


def _is_small(group: Any, leaves: Sequence[Leaf], spec: ReadSpec) -> bool:
    """Return whether a row group is small even if each text has the size of all columns."""
    if any(leaf.is_list for leaf in leaves) or group.total_byte_size <= 0 < group.num_rows:
        return False
    values = min(group.num_rows, spec.batch_rows)
    return values * group.total_byte_size <= spec.limits.batch_bytes // _SMALL_PART


def _bound_group(
    source: Any,
    file: pq.ParquetFile,
    number: int,
    leaves: Sequence[Leaf],
    chunks: Mapping[int, Chunk],
    spec: ReadSpec,
) -> _Bound:
    limits = spec.limits
    group = file.metadata.row_group(number)
    texts = [leaf for leaf in leaves if not leaf.width]
    bound = _Bound(rows=group.num_rows)
    if texts:  # values that are stored one by one
        known = sum(chunks[leaf.number].size_bytes for leaf in texts if leaf.number in chunks)
        bound.spread_bytes = max(group.total_byte_size, known)
    probed: list[Leaf] = []
    for leaf in leaves:
        chunk = chunks.get(leaf.number, Chunk(group.num_rows, group.total_byte_size, frozenset()))
        if leaf.width:
            _add(bound, leaf, chunk, leaf.width, limits, number)
            continue
        if leaf.path in spec.dictionary_columns:  # it stays encoded
            bound.row_bytes += _OFFSET_BYTES
            continue
        values = chunk.values if leaf.is_list else min(chunk.values, spec.batch_rows)
        largest = chunk.size_bytes
        if chunk.encodings and chunk.encodings <= _STORED_ONE_BY_ONE:
            largest = 0
        is_small = values * largest <= limits.batch_bytes // _SMALL_PART
        may_probe = values * _OFFSET_BYTES <= limits.batch_bytes or not leaf.is_list
        if is_small or not may_probe or not is_dictionary(chunk):
            _add(bound, leaf, chunk, largest + _OFFSET_BYTES, limits, number)
        else:
            probed.append(leaf)
    longest = _read_longest(source, file, number, probed, chunks) if probed else {}
    for leaf in probed:
        size = longest[leaf.path] + _OFFSET_BYTES
        _add(bound, leaf, chunks[leaf.number], size, limits, number)
    return bound


def is_dictionary(chunk: Chunk) -> bool:
    """Return whether Arrow can read a chunk of texts as a dictionary."""
    return chunk.encodings <= _DICTIONARY | _STORED_IN_PAGES


def _add(bound: _Bound, leaf: Leaf, chunk: Chunk, width: int, limits: Limits, number: int) -> None:
    """Add a column whose values have at most some number of bytes."""
    if not leaf.is_list:
        bound.row_bytes += width
        return
    size = chunk.values * width
    bound.spread_bytes += size
    where = f"row group {number}, column '{leaf.path}'"
    encoded = max(chunk.size_bytes, 1)
    if size > limits.batch_bytes and size > _MAX_EXPANSION * encoded:
        raise CorruptFile(
            f"{where}: {chunk.values} values of lists in {encoded} bytes may decode to {size} "
            f"bytes, all of them in one row; expected at most {limits.batch_bytes}. If the file is "
            "sound, raise --max_batch_bytes"
        )


def _read_longest(
    source: Any,
    file: pq.ParquetFile,
    number: int,
    leaves: Sequence[Leaf],
    chunks: Mapping[int, Chunk],
) -> dict[str, int]:
    """Return the length of the longest value in each column's dictionary."""
    paths = [leaf.path for leaf in leaves]
    probe = pq.ParquetFile(
        source, metadata=file.metadata, read_dictionary=paths, buffer_size=_PROBE_BUFFER_BYTES
    )
    batches = probe.iter_batches(1, row_groups=[number], columns=paths, use_threads=False)
    found = {leaf.path: chunks[leaf.number].size_bytes for leaf in leaves}
    batch = next(batches, None)
    if batch is None:
        return found
    for path in paths:
        top = pa.StructArray.from_arrays(batch.columns, batch.schema.names)
        # For an unknown layout, the bound is the size of the whole column.
        with contextlib.suppress(KeyError, IndexError, AttributeError):
            leaf = _leaf(top, path.split("."))
            is_encoded = pa.types.is_dictionary(leaf.type)
            found[path] = _longest_text(leaf.dictionary if is_encoded else leaf)
    return found


def _leaf(array: pa.Array, path: Sequence[str]) -> pa.Array:
    """Return the values at a path of Parquet's schema, which also names the insides of lists."""
    while not (pa.types.is_dictionary(array.type) or _is_text(array.type)):
        if isinstance(array.type, pa.ExtensionType):
            array = array.storage
        elif pa.types.is_struct(array.type):
            array, path = array.field(path[0]), path[1:]
        elif pa.types.is_map(array.type):
            array, path = (array.keys if path[1] == "key" else array.items), path[2:]
        else:
            array, path = array.values, path[2:]
    return array


def _is_text(data_type: pa.DataType) -> bool:
    return str(data_type).removeprefix("large_").removesuffix("_view") in ("string", "binary")


def _lengths(values: pa.Array) -> pa.Array:
    is_view = str(values.type).endswith("_view")
    return pc.binary_length(values.cast(pa.large_binary()) if is_view else values)


def _longest_text(values: pa.Array) -> int:
    return pc.max(_lengths(values)).as_py() or 0


def _has_dictionary(column: pa.Array) -> bool:
    return pa.types.is_dictionary(column.type) and _is_text(column.type.value_type)


def plain_bytes(batch: pa.RecordBatch) -> int:
    """Return the bytes of the columns that are not dictionaries of strings."""
    return sum(column.nbytes for column in batch.columns if not _has_dictionary(column))


def decoded_bytes(batch: pa.RecordBatch, limit: int) -> int:
    """Return a batch's bytes with dictionaries decoded: exact, or an upper bound within limit."""
    size = plain_bytes(batch)
    encoded = [column for column in batch.columns if _has_dictionary(column)]
    bound = size + sum(len(column) * column.dictionary.nbytes for column in encoded)
    if bound <= limit:
        return bound
    return size + sum(pc.sum(_text_sizes(column)).as_py() or 0 for column in encoded)


def _text_sizes(column: pa.Array) -> pa.Array:
    """Return the length of each string of a dictionary, and the bytes of one offset."""
    lengths = pc.add(_lengths(column.dictionary), _OFFSET_BYTES).cast(pa.int64())
    return lengths.take(column.indices)


def find_large_value(batch: pa.RecordBatch, limit: int) -> tuple[int, str, int] | None:
    """Return row, column and size of a value above a number of bytes, or None.

    Columns whose total size is within the limit cost nothing.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if (column.dictionary if _has_dictionary(column) else column).nbytes <= limit:
            continue
        if _has_dictionary(column):
            sizes = _lengths(column.dictionary).take(column.indices)
        elif _is_text(column.type):
            sizes = _lengths(column)
        else:
            sizes = pa.array([column.slice(row, 1).nbytes for row in range(len(column))])
        largest = pc.max(sizes).as_py() or 0
        if largest > limit:
            return pc.index(sizes, largest).as_py(), name, largest
    return None


def say_too_large(where: str, column: str, size: int, spec: ReadSpec) -> str:
    """Return the message for a value that is too large: what is wrong, and what to do."""
    return (
        f"column '{column}': the value of {where} takes {size} bytes; expected at most "
        f"{spec.limits.value_bytes}. If the file is sound, raise --max_value_bytes, or leave the "
        "column out"
    )


def slice_batch(batch: pa.RecordBatch, limit: int) -> Iterator[pa.RecordBatch]:
    """Yield a batch in parts of at most some number of bytes, but of at least one row."""
    if batch.num_rows <= 1 or decoded_bytes(batch, limit) <= limit:
        yield batch
        return
    half = batch.num_rows // 2
    yield from slice_batch(batch.slice(0, half), limit)
    yield from slice_batch(batch.slice(half), limit)
