"""JSON Lines, one object in each line → record batches.

A missing key is a null. Keys that are not in the schema are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import fs

from scoreline.lake.files.columns import top_columns
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
from scoreline.lake.files.json_lines import parse_lines
from scoreline.lake.files.json_values import find_problem
from scoreline.lake.files.pieces import PIECE_BYTES, Piece, join_pieces
from scoreline.lake.files.text import clean_head, read_bytes

_NESTED_BYTES = 8  # bytes of a null of a type without a fixed size
_NO_COLUMNS = pa.schema([])
# Errors of a line that is not an object of the schema.
LINE_ERRORS = (pa.ArrowException, ValueError)


def read_blocks(stream: Any, max_bytes: int, block_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines, without a byte order mark.

    Raises:
      ValueError: the file is not UTF-8 text, or a line is too long; the message names it, counted
        from 1.
    """
    rest: list[bytes] = []
    size, line, is_first = 0, 1, True
    while data := read_bytes(stream, block_bytes):
        if is_first:
            data, is_first = clean_head(data), False
        end = data.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, data[:end]])
            line += data.count(b"\n")
            rest, size = [], 0
        rest.append(data[end:])
        size += len(rest[-1])
        if size > max_bytes:
            raise ValueError(
                f"line {line} takes more than {max_bytes} bytes. If the file is sound, raise "
                "--max_value_bytes"
            )
    if size:
        yield b"".join(rest)


def _cut_blocks(blocks: Iterator[bytes], max_lines: int) -> Iterator[bytes]:
    """Yield blocks of a maximum number of lines: even an empty object decodes to a row of nulls."""
    for block in blocks:
        if len(block) <= max_lines or block.count(b"\n") <= max_lines:
            yield block
            continue
        lines = block.removesuffix(b"\n").split(b"\n")
        for start in range(0, len(lines), max_lines):
            yield b"\n".join(lines[start : start + max_lines]) + b"\n"


def _row_bytes(schema: pa.Schema) -> int:
    """Return the bytes of a row of nulls."""
    types = [field.type for field in schema]
    return sum(t.bit_width // 8 + 1 if pa.types.is_primitive(t) else _NESTED_BYTES for t in types)


def read_jsonl(file_system: fs.FileSystem, path: str, spec: ReadSpec) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file of JSON Lines, in order, as the types of `spec.schema`.

    Raises:
      CorruptFile: a line is not an object of the schema, or a value would change; the message names
        the line, counted from 1.
      ValueError: a line is longer than the maximum size of a value.
    """
    yield from join_pieces(_read_pieces(file_system, path, spec), spec.limits.batch_bytes)


def _read_pieces(file_system: fs.FileSystem, path: str, spec: ReadSpec) -> Iterator[Piece]:
    tops = top_columns(spec.schema, spec.columns)
    names = [name for name in tops if name in spec.schema.names or name not in spec.may_lack]
    schema = pa.schema([spec.schema.field(name) for name in names])
    whole = _whole_objects(schema, spec)
    # A later file may have a key for which the user gave a value: it is refused, not left out.
    later = [name for name in spec.unseen.names if name in spec.columns]
    read_as = pa.schema([*schema, *((name, pa.null()) for name in later)])
    first_line = 1
    limits = spec.limits
    max_lines = max(1, limits.batch_bytes // max(1, _row_bytes(schema)))
    with open_stream(file_system, path) as stream:
        blocks = read_blocks(stream, limits.value_bytes)
        for lines in _cut_blocks(blocks, max_lines):
            if lines.isspace():
                first_line += lines.count(b"\n")
                continue
            try:
                table = parse_lines(lines, read_as, whole).select(schema.names)
            except LINE_ERRORS as e:
                line, problem = find_bad_line(lines, read_as, e, whole)
                raise CorruptFile(
                    f"file {path} cannot be read: line {first_line + line}: {problem}"
                ) from e
            yield Piece(table, len(lines))
            first_line += lines.count(b"\n")


def _whole_objects(schema: pa.Schema, spec: ReadSpec) -> tuple[str, ...]:
    """Return the columns that are copied with all that is in their objects.

    If the user gave a schema, it lists the keys to copy.
    """
    if not spec.is_inferred:
        return ()
    return tuple(f.name for f in schema if f.name in spec.columns and _has_objects(f.type))


def _has_objects(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _has_objects(kind.value_type)
    return bool(pa.types.is_struct(kind))


def find_bad_line(
    lines: bytes, schema: pa.Schema | None, error: Exception, whole: Sequence[str] = ()
) -> tuple[int, str]:
    """Return the number of the first line that cannot be parsed, from 0, and the problem."""
    for number, line in enumerate(lines.split(b"\n")):
        if not line.strip():
            continue
        try:
            parse_lines(line, schema, whole)
        except LINE_ERRORS as e:
            return number, find_problem(line, schema or _NO_COLUMNS, whole) or str(e)
    return 0, str(error)  # no single line is wrong


def describe_jsonl(file_system: fs.FileSystem, file: DataFile, schema: pa.Schema) -> Footer:
    """Return the footer of a file of JSON Lines, whose first line must be an object."""
    try:
        with open_stream(file_system, file.path) as stream:
            head = clean_head(read_bytes(stream, HEAD_BYTES))
            first, end, _ = head.lstrip().partition(b"\n")
            # A value that no column holds is for the reader, which names its line and column.
            if first and (first[:1] != b"{" or (end and find_problem(first, _NO_COLUMNS))):
                raise ValueError(_describe_other(first))
    except READ_ERRORS as e:
        return unreadable(file.path, e)
    return whole_file(file, schema)


def _describe_other(line: bytes) -> str:
    what = "an array" if line[:1] == b"[" else repr(line[:20].decode(errors="replace"))
    return f"expected JSON Lines, an object in each line, got {what}"
