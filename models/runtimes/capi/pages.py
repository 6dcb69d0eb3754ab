"""The memory of a loaded library that nothing uses for now."""

from __future__ import annotations

import ctypes
import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_MAPS = Path("/proc/self/maps")  # only on Linux
_MAPPING = r"^([0-9a-f]+)-([0-9a-f]+) r-[x-]p ([0-9a-f]+) \S+ \S+ +%s$"
# ELF, 64 bits, little-endian. See elf(5) for the layout of the header and of the segments.
_MAGIC = b"\x7fELF\x02\x01"
_HEADER, _SEGMENT = struct.Struct("<32xQ14xHH"), struct.Struct("<IIQ")
_HEADER_BYTES = 64
_PT_LOAD, _PF_W = 1, 2


class Mapping(NamedTuple):
    """A range of addresses."""

    start: int
    size_bytes: int


def forget_pages(library: str) -> None:
    """Unmap the constants and the code of a loaded library, page by page until they are used again.

    The loader reads the names of all symbols, and a library runs thousands of functions once: in
    TensorFlow more than 300 MB. They stay in the kernel's cache of files, so the next use of a page
    costs a microsecond. What the process writes to, such as variables and relocated addresses, is
    in other segments, which are left alone.

    Args:
      library: path of the file.
    """
    if not _MAPS.exists():
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    path = Path(library).resolve()  # as the kernel names it
    for found in find_read_only(_MAPS.read_text(), path):
        madvise(found.start, found.size_bytes, mmap.MADV_DONTNEED)


def find_read_only(maps: str, library: Path) -> Iterator[Mapping]:
    """Yield where the segments of a library are loaded that are never written to.

    Args:
      maps: the content of `/proc/self/maps`.
      library: the file, without symbolic links.
    """
    offsets = {offset // mmap.PAGESIZE * mmap.PAGESIZE for offset in _read_only_offsets(library)}
    for start, end, offset in re.findall(_MAPPING % re.escape(str(library)), maps, re.M):
        if int(offset, 16) in offsets:
            yield Mapping(int(start, 16), int(end, 16) - int(start, 16))


def _read_only_offsets(library: Path) -> Iterator[int]:
    """Yield the places in the file of its segments that are loaded without the right to write."""
    with library.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
            return
        start, size, count = _HEADER.unpack_from(header)
        file.seek(start)
        segments = file.read(size * count)
    for at in range(0, len(segments), size):
        kind, rights, offset = _SEGMENT.unpack_from(segments, at)
        if kind == _PT_LOAD and not rights & _PF_W:
            yield offset
