"""File systems behind paths and URIs, and file operations that survive kills and races."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Iterator

import google_crc32c
from pyarrow import fs


def table_uri(output: str) -> str:
    """Return the location of a table in the form that deltalake expects."""
    return output if "://" in output else resolve(output)[1]


_CHUNK_BYTES = 1 << 20
# Another run of the same work removes our folders when it has committed, at any moment.
_MAX_ATTEMPTS = 100
_LASTING_ERRNOS = {
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EROFS),
}
# Arrow sets an errno for a refusal of gs://, but only a text for one of s3://. Statuses 408 and 429
# mean "try again later". Names as in Arrow's `S3ErrorToString`.
_REFUSED = re.compile(
    r"AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID"
    r"|SIGNATURE_DOES_NOT_MATCH|UNRECOGNIZED_CLIENT)|\(HTTP status 4(?!08|29)\d\d\)"
)


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


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise a panic of deltalake, which is no Exception in Python, as its DeltaError.

    A damaged checkpoint makes it panic. Nothing would catch that, up to the end of the process.
    """
    try:
        yield
    except BaseException as e:
        if type(e).__name__ != "PanicException":  # its class cannot be imported
            raise
        from deltalake.exceptions import DeltaError

        raise DeltaError(f"deltalake has crashed: {e}") from e


def may_pass(error: BaseException) -> bool:
    """Return whether an error of reading or writing may disappear by itself.

    True if a store does not answer or a disk is full. False if something is missing, malformed or
    not allowed: a person must look.
    """
    if not isinstance(error, OSError):
        return False
    if error.errno is not None:
        return error.errno not in _LASTING_ERRNOS
    return not _REFUSED.search(str(error))


def write_whole(file_system: fs.FileSystem, path: str, content: bytes) -> None:
    """Write a small file that appears whole or not at all, and replaces one of the same name.

    The folder is made again if another process removes it meanwhile.
    """
    folder, _, name = path.rpartition("/")
    for attempt in range(_MAX_ATTEMPTS):
        hidden = f"{folder}/.{uuid.uuid4().hex}-{name}.tmp"
        try:
            file_system.create_dir(folder, recursive=True)
            with file_system.open_output_stream(hidden) as stream:
                stream.write(content)
            file_system.move(hidden, path)
            return
        except (
            FileNotFoundError,
            FileExistsError,
        ):  # Arrow raises either for a folder that is gone
            if attempt == _MAX_ATTEMPTS - 1:
                raise


def move_file(file_system: fs.FileSystem, source: str, target: str) -> bool:
    """Move a file and make its new folder; return whether the file was there."""
    if file_system.get_file_info(source).type != fs.FileType.File:
        return False
    file_system.create_dir(target.rpartition("/")[0], recursive=True)
    try:
        file_system.move(source, target)
    except FileNotFoundError:  # another process has moved it
        return False
    return True


def remove_folder(file_system: fs.FileSystem, path: str) -> None:
    """Remove a folder of leftovers, unless another process removes or fills it meanwhile.

    It is no error if files stay: they do no harm, and `vacuum` removes them.
    """
    with contextlib.suppress(OSError):
        for info in list_folder(file_system, path):
            if not info.base_name.startswith("."):  # else another process is writing it
                with contextlib.suppress(FileNotFoundError):
                    file_system.delete_file(info.path)
        if not list_folder(file_system, path):
            file_system.delete_dir(path)


def read_checksum(file_system: fs.FileSystem, path: str) -> tuple[int, str]:
    """Return a file's size and the CRC32C of its bytes, 8 hex digits. Reads the whole file.

    Raises:
      OSError: the file cannot be read.
    """
    crc = size = 0
    with file_system.open_input_stream(path) as source:
        while chunk := source.read(_CHUNK_BYTES):
            crc, size = google_crc32c.extend(crc, chunk), size + len(chunk)
    return size, f"{crc:08x}"


def list_folder(file_system: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    """Return the entries of a folder, sorted by name; none if there is no such folder.

    Entries that another process removes meanwhile are left out.
    """
    found = file_system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    there = (info for info in found if info.type != fs.FileType.NotFound)
    return sorted(there, key=lambda info: info.path)
