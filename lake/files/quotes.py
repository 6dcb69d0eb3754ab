"""Quotation marks of CSV: a mark in the wrong place moves the borders of rows.

Arrow's parser takes `"a"b` for `ab`, and a mark that a backslash was meant to escape for the end of
a field. Then it reads several rows as one. Therefore each block is checked before it is parsed.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import numpy.typing as npt

from scoreline.lake.files.exact import may_have_codes
from scoreline.lake.files.text import clean_head, is_blank, read_bytes

_QUOTE, _COMMA, _NEWLINE, _RETURN = (np.uint8(ord(mark)) for mark in '",\n\r')
_Positions = npt.NDArray[np.intp]
_Bytes = npt.NDArray[np.uint8]
_Flags = npt.NDArray[np.bool_]
_BLOCK_BYTES = 1 << 20
_NONE = np.empty(0, np.intp)
# Ends of fields whose marks a backslash escapes. If marks are doubled, the field goes on.
_TWO_MEANINGS = (b'\\"",', b'\\""\n', b'\\""\r')
_WRONG_END = "a quotation mark that ends a field must be followed by a comma or the end of the line"
_WHICH_DIALECT = (
    'the file has quotation marks in unquoted fields, and \\"" at the end of fields, so it is '
    "unclear whether a backslash escapes them"
)


class BadQuote(ValueError):
    """A quotation mark in the wrong place.

    Attributes:
      start: the byte at which its field begins, after a byte order mark.
    """

    def __init__(self, start: int, problem: str) -> None:
        """Keep the place."""
        super().__init__(problem)
        self.start = start


class QuoteChecker:
    """Follows the quotation marks of a file from block to block.

    Args:
      escape: the character that escapes a mark within quotes: `"` doubles it, and "" means that it
        is doubled, but that a file which looks like another dialect is refused.
    """

    def __init__(self, escape: str = "") -> None:
        """Begin at the first byte."""
        self._escape = b"" if escape in ("", '"') else escape.encode()
        self._may_guess = not escape
        self._has_two_meanings = False
        self._is_inside = False
        self._marks: _Positions = _NONE  # those of the block that open, close or are doubled
        self._last = int(_NEWLINE)  # the byte before the block
        self._start = 0  # where the last field in quotes began
        self._before = 0  # bytes before the block

    def check(self, block: bytes) -> bytes:
        """Return a block with all escaped marks doubled.

        A block must not end with a quotation mark or an escape character, unless the file ends.

        Raises:
          BadQuote: a quoted field ends before something other than a comma or the end of a line.
        """
        if not block:
            return block
        result = self._check_marks(block) if b'"' in block else block
        self._before += len(block)
        self._last = block[-1]
        return result

    def _check_marks(self, block: bytes) -> bytes:
        data = np.frombuffer(block, np.uint8)
        marks = np.flatnonzero(data == _QUOTE)
        pairs = self._find_escapes(block)
        if len(pairs):
            marks = np.setdiff1d(marks, pairs + 1, assume_unique=True)
        if self._may_guess and not self._has_two_meanings:
            self._has_two_meanings = any(end in block for end in _TWO_MEANINGS)
        is_inside = self._is_inside
        self._marks = marks
        self._follow(data, marks)
        return self._double(data, pairs, is_inside) if len(pairs) else block

    def end(self) -> None:
        """Check the end of the file.

        Raises:
          BadQuote: a quoted field never ends.
        """
        if self._is_inside:
            raise BadQuote(self._start, "a quoted field never ends")

    def _follow(self, data: _Bytes, marks: _Positions) -> None:
        """Find the marks that open or close fields, or are doubled."""
        if not len(marks):
            return
        first = 1 if self._is_inside else 0  # marks open and close by turns
        is_doubled = np.diff(marks) == 1
        is_sound = self._are_edges_before(data, marks) | np.append(False, is_doubled)
        is_sound[1 - first :: 2] = (_are_edges_after(data, marks) | np.append(is_doubled, False))[
            1 - first :: 2
        ]
        if not is_sound.all():
            self._walk(data, marks)
        elif len(marks) > first:
            # A doubled mark closes and opens again: this is where the last field began, or later.
            self._start = self._before + int(marks[first::2][-1])
        self._is_inside ^= bool(len(self._marks) % 2)

    def _walk(self, data: _Bytes, marks: _Positions) -> None:
        """Follow the marks one by one: an unquoted field holds them as they are."""
        found: list[int] = []
        is_inside, at, problem = self._is_inside, 0, ""
        opens = self._are_edges_before(data, marks)
        closes = _are_edges_after(data, marks)
        while at < len(marks) and not problem:
            if not is_inside:
                if opens[at]:
                    is_inside, self._start = True, self._before + int(marks[at])
                    found.append(marks[at])
                elif self._has_two_meanings:
                    self._start, problem = self._before + int(marks[at]), _WHICH_DIALECT
            elif at + 1 < len(marks) and marks[at + 1] == marks[at] + 1:
                found += [marks[at], marks[at + 1]]
                at += 1
            elif closes[at]:
                is_inside = False
                found.append(marks[at])
            else:
                got = bytes(data[marks[at] + 1 : marks[at] + 2]).decode(errors="replace")
                problem = f"{_WRONG_END}, got {got!r}"
            at += 1
        self._marks = np.array(found, np.intp)
        if problem:
            raise BadQuote(self._start, problem)

    def _are_edges_before(self, data: _Bytes, marks: _Positions) -> _Flags:
        before = data[marks - 1]
        if len(marks) and marks[0] == 0:
            before[0] = self._last
        return _is_edge(before)

    def count_rows(self, block: bytes, stop: int) -> int:
        """Follow a block, and return the rows that end in it before a byte of the file."""
        before, last, is_inside = self._before, self._last, self._is_inside
        self._marks = _NONE
        with contextlib.suppress(BadQuote):
            self.check(block)
        data = np.frombuffer(block, np.uint8)
        is_end = (data == _NEWLINE) | ((data == _RETURN) & (np.append(data[1:], 0) != _NEWLINE))
        ends = np.flatnonzero(is_end)
        ends = ends[~self._are_inside(ends, is_inside) & (ends + before < stop)]
        padded = np.append(np.uint8(last), data)
        starts = ends - ((data[ends] == _NEWLINE) & (padded[ends] == _RETURN))
        is_blank = _is_line_end(padded[np.maximum(starts, 0)])  # Arrow passes over empty lines
        return int(len(ends) - np.count_nonzero(is_blank))

    def _are_inside(self, places: _Positions, is_inside: bool) -> _Flags:
        """Return whether each place is within quotes; `is_inside` is for the first byte."""
        numbers = np.searchsorted(self._marks, places)
        return (numbers % 2 == 1) != is_inside

    def _find_escapes(self, block: bytes) -> _Positions:
        """Return the positions of escape characters before a mark or an escape character."""
        found = []
        at = block.find(self._escape) if self._escape else -1
        while at >= 0:
            if block[at + 1 : at + 2] in (b'"', self._escape):
                found.append(at)
                at += 1
            at = block.find(self._escape, at + 1)
        return np.array(found, np.intp)

    def _double(self, data: _Bytes, pairs: _Positions, is_inside: bool) -> bytes:
        """Return a block in which doubled marks and single escape characters replace pairs."""
        pairs = pairs[self._are_inside(pairs, is_inside)]  # elsewhere the character means itself
        is_mark = data[pairs + 1] == _QUOTE
        data = data.copy()
        data[pairs[is_mark]] = _QUOTE
        return np.delete(data, pairs[~is_mark]).tobytes()


def _is_edge(values: _Bytes) -> _Flags:
    return (values == _COMMA) | _is_line_end(values)


def _is_line_end(values: _Bytes) -> _Flags:
    return (values == _NEWLINE) | (values == _RETURN)


def _are_edges_after(data: _Bytes, marks: _Positions) -> _Flags:
    """Return whether each mark ends a field; the end of the file is like the end of a line."""
    after = data[np.minimum(marks + 1, len(data) - 1)]
    if len(marks) and marks[-1] == len(data) - 1:
        after[-1] = _NEWLINE
    return _is_edge(after)


class CheckedStream:
    """A stream of CSV whose quotation marks are checked and doubled.

    Attributes:
      is_blank: whether all that was read so far is white space.
      has_codes: whether something that was read looks like a number that begins with a zero.

    Raises:
      BadQuote: see `QuoteChecker`.
      ValueError: the file is not UTF-8 text, or its compressed data is damaged.
    """

    def __init__(self, stream: Any, escape: str = "", *, find_codes: bool = False) -> None:
        """Read from an open file; `find_codes` sets `has_codes`."""
        self.is_blank = True
        self.has_codes = False
        self._stream = stream
        self._checker = QuoteChecker(escape)
        self._held_back = b'"' + escape.encode()
        self._find_codes = find_codes
        self._rest: bytes | None = None  # None before the first byte
        self._is_at_end = False

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes; none at the end of the file, which ends a line.

        Arrow takes what one call returns for a block, so a block is as long as it can be.
        """
        if self._is_at_end:
            return b""
        block = self._read_on(size)
        kept = block if self._is_at_end else block.rstrip(self._held_back)
        if not kept and block:
            raise ValueError(f"{len(block)} quotation marks follow each other")
        self._rest = block[len(kept) :]
        checked = self._check(kept)
        if self._is_at_end:
            self._checker.end()
            return checked if checked.endswith(b"\n") else checked + b"\n"
        return checked

    def _read_on(self, size: int) -> bytes:
        """Return the next `size` bytes, or all at the end of the file, with room for one more."""
        parts = [self._rest or b""]
        wanted = size - len(parts[0])
        while wanted > 0 or size < 0:
            data = read_bytes(self._stream, wanted)
            if not data:
                self._is_at_end = wanted > 0
                break
            wanted -= len(data)
            parts.append(clean_head(data) if self._rest is None else data)
            self._rest = b""
        return b"".join(parts)

    def _check(self, block: bytes) -> bytes:
        self.is_blank = self.is_blank and is_blank(block)
        if self._find_codes and not self.has_codes:
            self.has_codes = may_have_codes(block)
        return self._checker.check(block)

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._stream.closed

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def row_of(stream: Any, place: int, escape: str) -> int:
    """Return the row of a CSV file that holds a byte; the header is row 1.

    Args:
      stream: the file, from its beginning.
      place: the byte, after a byte order mark.
      escape: see `QuoteChecker`.
    """
    checker = QuoteChecker(escape)
    row, rest, is_first = 1, b"", True
    held_back = b'"' + escape.encode()
    while place > 0 and (data := stream.read(_BLOCK_BYTES)):
        block = rest + (clean_head(data) if is_first else data)
        is_first = False
        kept = block.rstrip(held_back)
        rest = block[len(kept) :]
        row += checker.count_rows(kept, place)
    return row
