"""TFRecord framing: a sequence of records, each with checksums.

A record is its length (8 bytes, little endian), the CRC32C of the length, its bytes, and the CRC32C
of its bytes. Both checksums are masked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import google_crc32c

from scoreline.lake.files.data_file import MAX_VALUE_BYTES, CorruptFile
from scoreline.lake.files.text import GZIP_MAGIC, explain_gzip

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_LENGTH_BYTES = 8
_READ_BYTES = 1 << 20
_MAX_READ_BYTES = 16 << 20  # a damaged length may be any number; a read must fit in memory


class RecordTooLarge(CorruptFile):
    """A record above the maximum size."""


class Record(NamedTuple):
    """A record, and the byte at which its header begins in the decompressed file."""

    offset: int
    data: bytes


def masked_crc(data: bytes) -> int:
    """Return the masked CRC32C of some bytes, as TFRecord stores it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(
    stream: Any, read_bytes: int = _READ_BYTES, max_bytes: int = MAX_VALUE_BYTES
) -> Iterator[Record]:
    """Yield the records of an open TFRecord file, in order.

    Args:
      stream: the file, decompressed.
      read_bytes: bytes to read at a time, more if a record is longer.
      max_bytes: maximum size of a record.

    Raises:
      RecordTooLarge: a record is larger; it is not read.
      CorruptFile: the file ends within a record, or a checksum is wrong; names the byte.
    """
    data, at, before = b"", 0, 0  # bytes in memory, how far they are used, bytes before them
    while True:
        if len(data) - at < _HEADER.size:
            data, at, before = _read_on(stream, data, at, before, _HEADER.size, read_bytes)
            if not data:
                return
            if len(data) < _HEADER.size:
                raise CorruptFile(f"it ends within the header of the record at byte {before}")
        length, crc = _HEADER.unpack_from(data, at)
        if masked_crc(data[at : at + _LENGTH_BYTES]) != crc:
            if not before and data.startswith(GZIP_MAGIC):
                raise CorruptFile("expected TFRecord, got gzip data; add .gz to its name")
            raise CorruptFile(
                f"the checksum of the length of the record at byte {before + at} is wrong"
            )
        if length > max_bytes:
            raise RecordTooLarge(
                f"the record at byte {before + at} takes {length} bytes; expected at most "
                f"{max_bytes}. If the file is sound, raise --max_value_bytes"
            )
        size = _HEADER.size + length + _CRC.size
        if len(data) - at < size:
            data, at, before = _read_on(stream, data, at, before, size, read_bytes)
            if len(data) < size:
                raise CorruptFile(f"it ends within the record of {length} bytes at byte {before}")
        end = at + size - _CRC.size
        record = data[at + _HEADER.size : end]
        if masked_crc(record) != _CRC.unpack_from(data, end)[0]:
            raise CorruptFile(f"the checksum of the record at byte {before + at} is wrong")
        yield Record(before + at, record)
        at += size


def _read_on(
    stream: Any, data: bytes, at: int, before: int, count: int, read_bytes: int
) -> tuple[bytes, int, int]:
    """Return the unused bytes, extended to at least `count` bytes if the file has them."""
    parts = [data[at:]]
    have = len(parts[0])
    before += at
    while have < count:
        try:
            more = stream.read(min(max(count - have, read_bytes), _MAX_READ_BYTES))
        except OSError as e:
            raise CorruptFile(f"after byte {before + have}: {explain_gzip(e)}") from e
        if not more:
            break
        parts.append(more)
        have += len(more)
    return b"".join(parts), 0, before
