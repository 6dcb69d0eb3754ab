"""JSON Lines, one object in each line → record batches.

A missing key is a null. Keys that are not in the schema are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import fs
from pyarrow import json as arrow_json

from scoreline.lake.files.columns import top_columns
from scoreline.lake.files.data_file import (
    HEAD_BYTES,
    MAX_VALUE_BYTES,
    READ_ERRORS,
    CorruptFile,
    DataFile,
    Footer,
    ReadSpec,
    open_stream,
    unreadable,
    whole_file,
)
from scoreline.lake.files.finite import find_not_finite

_BLOCK_BYTES = 4 << 20
_SAMPLE_BYTES = 1 << 20
_NESTED_BYTES = 8  # bytes of a null of a type without a fixed size
_MAX_EXACT = 2**53
_NO_COLUMNS = pa.schema([])


def _read_blocks(stream: Any, max_bytes: int, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines.

    Raises:
      ValueError: a line is too long; the message names it, counted from 1.
    """
    rest: list[bytes] = []
    size, line = 0, 1
    while data := stream.read(block_bytes):
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
        if block.count(b"\n") <= max_lines:
            yield block
            continue
        lines = block.removesuffix(b"\n").split(b"\n")
        for start in range(0, len(lines), max_lines):
            yield b"\n".join(lines[start : start + max_lines]) + b"\n"


def _row_bytes(schema: pa.Schema) -> int:
    """Return the bytes of a row of nulls."""
    types = [field.type for field in schema]
    return sum(t.bit_width // 8 + 1 if pa.types.is_primitive(t) else _NESTED_BYTES for t in types)


def parse_lines(lines: bytes, schema: pa.Schema | None) -> pa.Table:
    """Parse JSON objects, one per line, into a table of a schema, or of an inferred one.

    Raises:
      ArrowException, UnicodeDecodeError: a line is not an object of the schema.
    """
    if schema is not None and any(pa.types.is_date(field.type) for field in schema):
        # Arrow's parser reads dates as numbers of days; JSON has them as strings.
        texts = [pa.string() if pa.types.is_date(f.type) else f.type for f in schema]
        return parse_lines(lines, pa.schema(zip(schema.names, texts, strict=True))).cast(schema)
    table = arrow_json.read_json(
        pa.BufferReader(lines),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        parse_options=arrow_json.ParseOptions(
            explicit_schema=schema,
            newlines_in_values=False,
            unexpected_field_behavior="infer" if schema is None else "ignore",
        ),
    )
    table.validate(full=True)  # Arrow's parser accepts strings that are not UTF-8
    if problem := find_not_finite(table):  # and reads 1e39 as infinity
        raise pa.ArrowInvalid(problem)
    return table


def read_jsonl(file_system: fs.FileSystem, path: str, spec: ReadSpec) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file of JSON Lines, in order, as the types of `spec.schema`.

    Raises:
      CorruptFile: a line is not an object of the schema; the message names it, counted from 1.
      ValueError: a line is longer than the maximum size of a value.
    """
    tops = top_columns(spec.schema, spec.columns)
    names = [name for name in tops if name in spec.schema.names or name not in spec.may_lack]
    schema = pa.schema([spec.schema.field(name) for name in names])
    first_line = 1
    limits = spec.limits
    max_lines = max(1, limits.batch_bytes // max(1, _row_bytes(schema)))
    with open_stream(file_system, path) as stream:
        blocks = _read_blocks(stream, limits.value_bytes)
        for lines in _cut_blocks(blocks, max_lines):
            if lines.isspace():
                first_line += lines.count(b"\n")
                continue
            try:
                table = parse_lines(lines, schema)
            except (pa.ArrowException, UnicodeDecodeError) as e:
                line, problem = _find_bad_line(lines, schema, e)
                raise CorruptFile(
                    f"file {path} cannot be read: line {first_line + line}: {problem}"
                ) from e
            yield from table.combine_chunks().to_batches()
            first_line += lines.count(b"\n")


def _find_bad_line(lines: bytes, schema: pa.Schema, error: Exception) -> tuple[int, str]:
    for number, line in enumerate(lines.split(b"\n")):
        if not line.strip():
            continue
        try:
            parse_lines(line, schema)
        except (pa.ArrowException, UnicodeDecodeError) as e:
            is_text = "UTF8" not in str(e) and not isinstance(e, UnicodeDecodeError)
            return number, str(e) if is_text else "expected UTF-8"
    return 0, str(error)  # no single line is wrong


def describe_jsonl(file_system: fs.FileSystem, file: DataFile, schema: pa.Schema) -> Footer:
    """Return the footer of a file of JSON Lines, whose first line must be an object."""
    try:
        with open_stream(file_system, file.path) as stream:
            first, end, _ = stream.read(HEAD_BYTES).lstrip().partition(b"\n")
            if first[:1] not in (b"{", b"") or (end and not _is_json(first)):
                raise ValueError(_describe_other(first))
    except READ_ERRORS as e:
        return unreadable(file.path, e)
    return whole_file(file, schema)


def _is_json(line: bytes) -> bool:
    try:
        parse_lines(line, _NO_COLUMNS)
    except (pa.ArrowException, UnicodeDecodeError):
        return False
    return True


def _describe_other(line: bytes) -> str:
    what = "an array" if line[:1] == b"[" else repr(line[:20].decode(errors="replace"))
    return f"expected JSON Lines, an object in each line, got {what}"


def infer_jsonl(
    file_system: fs.FileSystem, paths: Sequence[str], given: pa.Schema | None
) -> pa.Schema:
    """Infer columns and types from the first megabyte of some files.

    Integers become int64 and other numbers float64. Strings stay strings, whatever they look like.
    A key that is always null has the null type. Damaged files are skipped here: they fail their
    partitions.

    Raises:
      ValueError: a key has values of two types, or integers beyond int64.
    """
    if given is not None:
        return given
    found = pa.schema([])
    seen: list[str] = []
    for path in paths:
        lines = _read_sample(file_system, path)
        if not lines:
            continue
        try:
            schema = parse_lines(lines, None).schema
        except (pa.ArrowException, UnicodeDecodeError) as e:
            if "changed from" in str(e):
                raise ValueError(f"{path}: {e}. Say types with --schema") from e
            continue
        _check_numbers(lines, schema, path)
        schema = pa.schema([(field.name, _keep_text(field.type)) for field in schema])
        try:
            found = pa.unify_schemas([found, schema], promote_options="permissive")
        except pa.ArrowTypeError as e:
            raise ValueError(
                f"{path} has other types than {', '.join(seen)}: {e}. Say types with --schema"
            ) from e
        seen.append(path)
    return found


def _read_sample(file_system: fs.FileSystem, path: str) -> bytes:
    try:
        with open_stream(file_system, path) as stream:
            lines = next(_read_blocks(stream, MAX_VALUE_BYTES, _SAMPLE_BYTES), b"")
    except READ_ERRORS:
        return b""
    return b"" if lines.isspace() or lines.lstrip()[:1] != b"{" else lines


def _check_numbers(lines: bytes, schema: pa.Schema, path: str) -> None:
    """Raise ValueError if integers were inferred as floats that cannot hold them exactly."""
    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    if not floats:
        return
    for line in lines.splitlines():
        row = json.loads(line) if line.strip() else {}
        for name in floats:
            value = row.get(name)
            if isinstance(value, int) and abs(value) > _MAX_EXACT:
                raise ValueError(
                    f"{path}: '{name}' has whole numbers that no float64 holds, such as {value}. "
                    "Write them as texts, or say a type with --schema"
                )


def _keep_text(data_type: pa.DataType) -> pa.DataType:
    """Return an inferred type with strings in place of the times that Arrow saw in strings."""
    if pa.types.is_timestamp(data_type) or pa.types.is_time(data_type):
        return pa.string()
    if pa.types.is_list(data_type):
        return pa.list_(_keep_text(data_type.value_type))
    if pa.types.is_struct(data_type):
        return pa.struct([(field.name, _keep_text(field.type)) for field in data_type])
    return data_type
