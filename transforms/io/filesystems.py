"""Paths and URIs → file systems, the same way everywhere."""

from __future__ import annotations

import os
import uuid

import google_crc32c
from pyarrow import fs

_CHUNK_BYTES = 1 << 20


def resolve(path: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a local path or a URI (`gs://…`), and the path within it.

    Raises:
      ValueError: the URI's scheme is unknown.
    """
    if "://" not in path:
        return fs.LocalFileSystem(), os.path.abspath(path)
    try:
        file_system, within = fs.FileSystem.from_uri(path)
    except (ValueError, NotImplementedError) as e:
        raise ValueError(
            f"Expected a local path or a URI such as gs://bucket/path, got {path}"
        ) from e
    return file_system, within.rstrip("/")


def write_whole(file_system: fs.FileSystem, path: str, content: bytes) -> None:
    """Write a small file that appears whole or not at all, replacing one of the same name."""
    folder, _, name = path.rpartition("/")
    file_system.create_dir(folder, recursive=True)
    hidden = f"{folder}/.{uuid.uuid4().hex}-{name}.tmp"
    with file_system.open_output_stream(hidden) as stream:
        stream.write(content)
    file_system.move(hidden, path)


def read_checksum(file_system: fs.FileSystem, path: str) -> tuple[int, str]:
    """Return a file's size and the CRC32C of its bytes, 8 hex digits; reads all of it.

    Raises:
      OSError: it cannot be read.
    """
    crc = size = 0
    with file_system.open_input_stream(path) as source:
        while chunk := source.read(_CHUNK_BYTES):
            crc, size = google_crc32c.extend(crc, chunk), size + len(chunk)
    return size, f"{crc:08x}"


def list_folder(file_system: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    """Return what a folder holds, sorted by name; nothing when there is no such folder."""
    found = file_system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(found, key=lambda info: info.path)
