"""Quotation marks of CSV: a mark in the wrong place moves the borders of rows.

Arrow's parser takes `"a"b` for `ab`, and a mark that a backslash was meant to escape for the end of
a field. Then it reads several rows as one. Therefore each block is checked before it is parsed.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_QUOTE, _COMMA, _NEWLINE, _RETURN = (np.uint8(ord(mark)) for mark in '",\n\r')
_Positions = npt.NDArray[np.intp]
_Bytes = npt.NDArray[np.uint8]
_Flags = npt.NDArray[np.bool_]
_NONE = np.empty(0, np.intp)
_IS_LINE_END = np.isin(np.arange(256, dtype=np.uint8), (_NEWLINE, _RETURN))
_IS_EDGE = _IS_LINE_END | (np.arange(256) == _COMMA)
# Ends of fields whose marks a backslash escapes. If marks are doubled, the field goes on.
_TWO_MEANINGS = (b'\\"",', b'\\""\n', b'\\""\r')
_WRONG_END = "a quotation mark that ends a field must be followed by a comma or the end of the line"
_WHICH_DIALECT = (
    'the file has quotation marks in unquoted fields, and \\"" at the end of fields, so it is '
    "unclear whether a backslash escapes them"
)


class BadRow(ValueError):
    """A row that cannot be told from the next.

    Attributes:
      place: a byte of the row, after a byte order mark.
    """

    def __init__(self, place: int, problem: str) -> None:
        """Keep the place."""
        super().__init__(problem)
        self.place = place


class Checked(NamedTuple):
    """A block with all escaped marks doubled, and where the last whole row in it ends."""

    block: bytes
    end: int


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

    def check(self, block: bytes) -> Checked:
        """Return a block with all escaped marks doubled.

        A block must not end with a quotation mark or an escape character, unless the file ends.

        Raises:
          BadRow: a quoted field ends before something other than a comma or the end of a line.
        """
        self._marks = _NONE
        is_inside = self._is_inside
        try:
            pairs = self._follow(block) if b'"' in block else _NONE
        finally:
            self._before += len(block)
            self._last = block[-1]
        end = self._find_end(block, is_inside)
        if not len(pairs):
            return Checked(block, end)
        pairs = pairs[self._are_inside(pairs, is_inside)]  # elsewhere the character means itself
        return _double(block, pairs, end)

    def end(self) -> None:
        """Check the end of the file.

        Raises:
          BadRow: a quoted field never ends.
        """
        if self._is_inside:
            raise BadRow(self._start, "a quoted field never ends")

    def _find_end(self, block: bytes, is_inside: bool) -> int:
        """Return where the last row ends in a block; 0 if none does."""
        mark = b"\n" if b"\n" in block else b"\r"
        at = block.rfind(mark)
        while at >= 0 and self._are_inside(np.array([at]), is_inside)[0]:
            at = block.rfind(mark, 0, at)
        return at + 1

    def _follow(self, block: bytes) -> _Positions:
        """Find the marks that open or close fields, or are doubled; return where pairs begin."""
        data = np.frombuffer(block, np.uint8)
        marks = np.flatnonzero(data == _QUOTE)
        pairs = self._find_escapes(block)
        if len(pairs):
            marks = np.setdiff1d(marks, pairs + 1, assume_unique=True)
        if self._may_guess and not self._has_two_meanings and b"\\" in block:
            self._has_two_meanings = any(end in block for end in _TWO_MEANINGS)
        self._marks = marks
        first = 1 if self._is_inside else 0  # marks open and close by turns
        if not self._are_sound(data, marks, first):
            self._walk(data, marks)
        elif len(marks) > first:
            # A doubled mark closes and opens again: this is where the last field began, or later.
            self._start = self._before + int(marks[first::2][-1])
        self._is_inside ^= bool(len(self._marks) % 2)
        return pairs

    def _are_sound(self, data: _Bytes, marks: _Positions, first: int) -> bool:
        """Return whether all marks but doubled ones are at the edges of fields."""
        opens = self._are_edges_before(data, marks[first::2])
        closes = _are_edges_after(data, marks[1 - first :: 2])
        if opens.all() and closes.all():
            return True
        is_doubled = np.diff(marks) == 1
        opens |= np.append(False, is_doubled)[first::2]
        closes |= np.append(is_doubled, False)[1 - first :: 2]
        return bool(opens.all() and closes.all())

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
            raise BadRow(self._start, problem)

    def _are_edges_before(self, data: _Bytes, marks: _Positions) -> _Flags:
        before = data[marks - 1]
        if len(marks) and marks[0] == 0:
            before[0] = self._last
        return _IS_EDGE[before]

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

    def count_rows(self, block: bytes, stop: int) -> int:
        """Follow a block, and return the rows that end in it before a byte of the file."""
        before, last, is_inside = self._before, self._last, self._is_inside
        with contextlib.suppress(BadRow):
            self.check(block)
        data = np.frombuffer(block, np.uint8)
        is_end = (data == _NEWLINE) | ((data == _RETURN) & (np.append(data[1:], 0) != _NEWLINE))
        ends = np.flatnonzero(is_end)
        ends = ends[~self._are_inside(ends, is_inside) & (ends + before < stop)]
        padded = np.append(np.uint8(last), data)
        starts = ends - ((data[ends] == _NEWLINE) & (padded[ends] == _RETURN))
        is_blank = _IS_LINE_END[padded[np.maximum(starts, 0)]]  # Arrow passes over empty lines
        return int(len(ends) - np.count_nonzero(is_blank))


def _are_edges_after(data: _Bytes, marks: _Positions) -> _Flags:
    """Return whether each mark ends a field; the end of the file is like the end of a line."""
    after = data[np.minimum(marks + 1, len(data) - 1)]
    if len(marks) and marks[-1] == len(data) - 1:
        after[-1] = _NEWLINE
    return _IS_EDGE[after]


def _double(block: bytes, pairs: _Positions, end: int) -> Checked:
    """Return a block in which doubled marks and single escape characters replace pairs."""
    data = np.frombuffer(block, np.uint8).copy()
    is_mark = data[pairs + 1] == _QUOTE
    data[pairs[is_mark]] = _QUOTE
    gone = pairs[~is_mark]
    return Checked(np.delete(data, gone).tobytes(), end - int(np.count_nonzero(gone < end)))
