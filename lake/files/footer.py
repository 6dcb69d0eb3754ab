"""Parquet footers: read the bytes, and find what Arrow cannot be asked about safely.

pyarrow's accessor of a column chunk (`row_group(i).column(j)`) ends the whole process if the chunk
is encrypted, or if its statistics contradict the schema: an exception of C++ passes through code
that does not expect one. Therefore facts about chunks are read from the footer's bytes here, in
Python, where a damaged byte can only raise an error. Arrow itself checks the same bytes again when
it reads, and reports an error. See docs/decisions/0019-damaged-files.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

_TAIL_BYTES = 64 << 10  # Arrow reads as much, so that one read is enough for most files
_MAGIC, _ENCRYPTED_MAGIC = b"PAR1", b"PARE"
_MIN_BYTES = 12  # magic, length of the footer, magic
# Levels of structs and lists within each other that are read.
MAX_LEVELS = 100
# A schema of fewer elements cannot nest so deep that Arrow crashes: it does beyond 5,000 levels.
_SAFE_ELEMENTS = 2500
_MAX_DEPTH = 32  # of structs within structs; Parquet has 6
_ENCODINGS = (
    *("PLAIN", "GROUP_VAR_INT", "PLAIN_DICTIONARY", "RLE", "BIT_PACKED", "DELTA_BINARY_PACKED"),
    *("DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "RLE_DICTIONARY", "BYTE_STREAM_SPLIT"),
)
# Types of Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE = 1, 2, 3, 4, 5, 6, 7
_BINARY, _LIST, _SET, _MAP, _STRUCT = 8, 9, 10, 11, 12
_UNENCRYPTED = (
    "it is encrypted, and Scoreline has no keys: expected a file without encryption. Write it "
    "without"
)


class Chunk(NamedTuple):
    """What a footer says about a column's values in one row group.

    Attributes:
      values: how many there are, with nulls.
      size_bytes: their encoded size, uncompressed.
      encodings: the encodings of its pages.
    """

    values: int
    size_bytes: int
    encodings: frozenset[str]


def read_tail(source: Any) -> bytes:
    """Return the last bytes of an open Parquet file: at least its whole footer.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no Parquet file, is cut off, or is encrypted.
    """
    size = source.size()
    tail: bytes = source.read_at(min(size, _TAIL_BYTES), max(0, size - _TAIL_BYTES))
    if tail[-4:] == _ENCRYPTED_MAGIC:
        raise ValueError(_UNENCRYPTED)
    if size < _MIN_BYTES or tail[-4:] != _MAGIC:
        raise ValueError(
            f"expected a Parquet file, which ends in PAR1, got {size} bytes that end in "
            f"{tail[-4:]!r}. It is cut off, or another kind of file"
        )
    whole = _length_of(tail) + 8
    if whole > size:
        raise ValueError(f"expected a footer within its {size} bytes, got one of {whole} bytes")
    return tail if whole <= len(tail) else source.read_at(whole, size - whole)


def check_depth(tail: bytes) -> None:
    """Check that a schema does not nest so deep that Arrow, which recurses, overflows its stack.

    Raises:
      ValueError: it does.
    """
    thrift = Thrift(_footer_of(tail))
    try:
        for field, kind in thrift.fields():
            if field == 2:
                elements = thrift.list_length()
                if elements > _SAFE_ELEMENTS:
                    _walk_schema(thrift, elements)
                return
            thrift.skip(kind)
    except IndexError:
        return  # Arrow reports it


def _walk_schema(thrift: Thrift, elements: int) -> None:
    waiting: list[int] = []  # by level, how many children are still to come
    for _ in range(elements):
        children = 0
        for field, kind in thrift.fields():
            if field == 5:
                children = thrift.integer()
            else:
                thrift.skip(kind)
        if waiting:
            waiting[-1] -= 1
        if children > 0:
            waiting.append(children)
        while waiting and waiting[-1] <= 0:
            waiting.pop()
        if len(waiting) > MAX_LEVELS:
            raise ValueError(f"expected columns of at most {MAX_LEVELS} levels, got more")


def check_readable(tail: bytes, parsed_bytes: int) -> None:
    """Check that Arrow has parsed a footer whole.

    What follows the footer of an encrypted file is its signature.

    Args:
      tail: the last bytes of the file.
      parsed_bytes: the length of the footer that Arrow has parsed.

    Raises:
      ValueError: columns are encrypted, or the footer is damaged.
    """
    length = _length_of(tail)
    if parsed_bytes == length:
        return
    encrypted = find_encrypted(tail)
    if encrypted is not None:
        names = ", ".join(f"'{name}'" for name in encrypted)
        raise ValueError(f"column {names}: {_UNENCRYPTED}" if names else _UNENCRYPTED)
    raise ValueError(f"expected a footer of {length} bytes, got one that ends after {parsed_bytes}")


def find_encrypted(tail: bytes) -> list[str] | None:
    """Return the columns of a signed footer whose values are encrypted; None if it has no keys."""
    thrift = Thrift(_footer_of(tail))
    is_signed = False
    names: dict[str, None] = {}
    try:
        for field, kind in thrift.fields():
            if field == 4:
                for _ in range(thrift.list_length()):
                    names |= _encrypted_of(thrift)
            else:
                is_signed = is_signed or field == 8
                thrift.skip(kind)
    except (IndexError, ValueError):
        return None
    return list(names) if is_signed else None


def read_chunks(
    tail: bytes, groups: Collection[int], leaves: Collection[int]
) -> dict[int, Mapping[int, Chunk]]:
    """Return facts about column chunks, by row group and by number of the leaf column.

    Args:
      tail: the last bytes of the file.
      groups: the row groups.
      leaves: the columns, as numbers of leaves of the schema.

    Raises:
      ValueError: the footer is damaged.
    """
    thrift = Thrift(_footer_of(tail))
    last = max(groups, default=-1)
    found: dict[int, Mapping[int, Chunk]] = {}
    try:
        for field, kind in thrift.fields():
            if field != 4:
                thrift.skip(kind)
                continue
            for group in range(min(thrift.list_length(), last + 1)):
                if group in groups:
                    found[group] = _read_group(thrift, leaves)
                else:
                    thrift.skip(_STRUCT)
            break
    except IndexError as e:
        raise ValueError("its footer ends within a field") from e
    if len(found) != len(set(groups)):
        raise ValueError(f"expected {len(set(groups))} row groups in its footer, got {len(found)}")
    return found


def _length_of(tail: bytes) -> int:
    return int.from_bytes(tail[-8:-4], "little")


def _footer_of(tail: bytes) -> bytes:
    return tail[-8 - _length_of(tail) : -8]


def _read_group(thrift: Thrift, leaves: Collection[int]) -> dict[int, Chunk]:
    found: dict[int, Chunk] = {}
    for field, kind in thrift.fields():
        if field != 1:
            thrift.skip(kind)
            continue
        for leaf in range(thrift.list_length()):
            if leaf in leaves:
                found[leaf] = _read_chunk(thrift)
            else:
                thrift.skip(_STRUCT)
    missing = set(leaves) - set(found)
    if missing:
        raise ValueError(f"its footer lacks {len(missing)} columns of a row group")
    return found


def _read_chunk(thrift: Thrift) -> Chunk:
    values = size = -1
    encodings: list[str] = []
    for field, kind in thrift.fields():
        if field != 3:
            thrift.skip(kind)
            continue
        for inner, inner_kind in thrift.fields():
            if inner == 2:
                encodings = [_name_encoding(thrift.integer()) for _ in range(thrift.list_length())]
            elif inner == 5:
                values = thrift.integer()
            elif inner == 6:
                size = thrift.integer()
            else:
                thrift.skip(inner_kind)
    if values < 0 or size < 0:
        raise ValueError("its footer lacks the size of a column")
    return Chunk(values, size, frozenset(encodings))


def _name_encoding(number: int) -> str:
    return _ENCODINGS[number] if 0 <= number < len(_ENCODINGS) else str(number)


def _encrypted_of(thrift: Thrift) -> dict[str, None]:
    """Return the encrypted columns of a row group."""
    names: dict[str, None] = {}
    for field, kind in thrift.fields():
        if field != 1:
            thrift.skip(kind)
            continue
        for _ in range(thrift.list_length()):
            name, is_encrypted = "", False
            for inner, inner_kind in thrift.fields():
                if inner == 8:  # ENCRYPTION_WITH_FOOTER_KEY, or ENCRYPTION_WITH_COLUMN_KEY
                    is_encrypted, name = True, _key_path(thrift)
                else:
                    thrift.skip(inner_kind)
            names |= {name: None} if is_encrypted and name else {}
    return names


def _key_path(thrift: Thrift) -> str:
    """Return the column that an encryption key is for; "" for the key of the footer."""
    path = ""
    for field, kind in thrift.fields():
        if field != 2:
            thrift.skip(kind)
            continue
        for inner, inner_kind in thrift.fields():
            if inner == 1:
                parts = [thrift.binary() for _ in range(thrift.list_length())]
                path = b".".join(parts).decode(errors="replace")
            else:
                thrift.skip(inner_kind)
    return path


class Thrift:
    """Reads Thrift's compact protocol. Damaged bytes raise IndexError or ValueError.

    Attributes:
      position: how many bytes are read.
    """

    __slots__ = ("_data", "position")

    def __init__(self, data: bytes) -> None:
        """Begin at the first byte."""
        self._data, self.position = data, 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and type of each field of a struct; the caller must read or skip it."""
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self.integer()
            yield field, head & 15

    def list_length(self) -> int:
        """Return how many elements of a list follow."""
        return self._list_head()[0]

    def integer(self) -> int:
        """Return the next number."""
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def binary(self) -> bytes:
        """Return the next bytes or text."""
        length = self._varint()
        self.position += length
        if self.position > len(self._data):
            raise IndexError
        return self._data[self.position - length : self.position]

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over a value of a type."""
        if kind in (_I16, _I32, _I64):
            data, at = self._data, self.position
            while data[at] > 127:
                at += 1
            self.position = at + 1
        elif kind == _BINARY:
            length = self._varint()
            self.position += length
        elif kind == _STRUCT:
            if depth > _MAX_DEPTH:
                raise ValueError("its footer has too many structs within structs")
            while head := self._byte():
                if not head >> 4:
                    self._varint()
                self.skip(head & 15, depth + 1)
        elif kind in (_LIST, _SET):
            length, inner = self._list_head()
            if inner in (_TRUE, _FALSE, _BYTE):
                self.position += length
            else:
                for _ in range(length):
                    self.skip(inner, depth + 1)
        elif kind in (_BYTE, _DOUBLE):
            self.position += 1 if kind == _BYTE else 8
        elif kind == _MAP:
            self._skip_map(depth)
        elif kind not in (_TRUE, _FALSE):
            raise ValueError(f"its footer has a field of unknown type {kind}")

    def _skip_map(self, depth: int) -> None:
        length = self._varint()
        kinds = self._byte() if length else 0
        for _ in range(length):
            for kind in (kinds >> 4, kinds & 15):
                self.skip(_BYTE if kind in (_TRUE, _FALSE) else kind, depth + 1)

    def _byte(self) -> int:
        byte = self._data[self.position]
        self.position += 1
        return byte

    def _list_head(self) -> tuple[int, int]:
        head = self._byte()
        return (head >> 4 if head >> 4 != 15 else self._varint()), head & 15

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
            if shift > 63:
                raise ValueError("its footer has a number of more than 64 bits")
