"""A file of CSV → blocks of whole rows, whose quotation marks are checked and doubled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from scoreline.lake.files.pieces import PIECE_BYTES
from scoreline.lake.files.quotes import BadRow, QuoteChecker
from scoreline.lake.files.text import clean_head, is_blank, read_bytes

_LINE_END = re.compile(rb"[\r\n]")
# The most of one row.
MAX_ROW_BYTES = 4 << 20


def read_rows(stream: Any, escape: str = "", block_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """Yield blocks of whole rows, none of them blank, without a byte order mark.

    Arrow's own reader of streams is not used, because it calls the stream in threads that outlive
    it: a process that ends meanwhile aborts.

    Args:
      stream: the file, from its beginning.
      escape: see `QuoteChecker`.
      block_bytes: bytes to read at a time.

    Raises:
      BadRow: a quotation mark is in the wrong place, or a row is too long.
      ValueError: the file is not UTF-8 text, or its compressed data is damaged.
    """
    checker = QuoteChecker(escape)
    parts: list[bytes] = []  # the beginning of a row
    size = before = 0
    for block in _read_blocks(stream, escape, block_bytes):
        checked, end = checker.check(block)
        before += len(block)
        if end:
            yield from _join([*parts, memoryview(checked)[:end]])
            parts, size = [], 0
        parts.append(checked[end:])
        size += len(parts[-1])
        if size > MAX_ROW_BYTES:
            raise BadRow(
                before - 1,
                f"it takes more than {MAX_ROW_BYTES} bytes, which is the most of CSV. Write JSON "
                "Lines or Parquet",
            )
    checker.end()
    yield from _join(parts)


def _join(parts: Sequence[bytes | memoryview]) -> Iterator[bytes]:
    rows = b"".join(parts)
    if not is_blank(rows):
        yield rows


def _read_blocks(stream: Any, escape: str, block_bytes: int) -> Iterator[bytes]:
    """Yield blocks that do not end within a doubled or escaped mark."""
    marks = b'"' + escape.encode()
    rest, is_first = b"", True
    while data := read_bytes(stream, block_bytes):
        block = rest + (clean_head(data) if is_first else data)
        is_first = False
        kept = block.rstrip(marks)
        rest = block[len(kept) :]
        if len(rest) > MAX_ROW_BYTES:
            raise ValueError(f"{len(rest)} quotation marks follow each other")
        if kept:
            yield kept
    if rest:
        yield rest


def split_header(rows: bytes) -> tuple[bytes, bytes]:
    """Return the first row that is not blank, and the rows after it."""
    rows = rows.lstrip(b"\r\n")
    for line_end in _LINE_END.finditer(rows):
        if QuoteChecker('"').check(rows[: line_end.end()]).end:
            return rows[: line_end.end()], rows[line_end.end() :]
    return rows, b""


def row_of(stream: Any, place: int, escape: str) -> int:
    """Return the row of a CSV file that holds a byte; the header is row 1.

    Args:
      stream: the file, from its beginning.
      place: the byte, after a byte order mark.
      escape: see `QuoteChecker`.
    """
    checker = QuoteChecker(escape)
    return 1 + sum(
        checker.count_rows(block, place) for block in _read_blocks(stream, escape, MAX_ROW_BYTES)
    )
