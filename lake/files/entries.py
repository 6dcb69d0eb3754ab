"""The entries of a folder, and those that lead nowhere: links, pipes, names that are no text.

Arrow leaves out links whose target is gone, and fails on names that are not UTF-8. Local folders
are therefore listed by the operating system too.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from pyarrow import fs

from scoreline.lake.storage import list_folder, may_pass


class Entries(NamedTuple):
    """What a folder holds.

    Attributes:
      infos: its files and folders, by name.
      wrong: by name, why an entry is neither.
      error: why the folder cannot be listed; "" if it can.
    """

    infos: list[fs.FileInfo]
    wrong: dict[str, str] = {}  # noqa: RUF012  a field of a NamedTuple; it is never changed
    error: str = ""


def list_entries(file_system: fs.FileSystem, path: str) -> Entries:
    """Return the entries of a folder; none if there is no such folder.

    Raises:
      OSError: the store does not answer.
    """
    try:
        if not isinstance(file_system, fs.LocalFileSystem):
            return Entries(list_folder(file_system, path))
        return _list_local(file_system, path)
    except OSError as e:
        if may_pass(e):
            raise
        return Entries([], {}, f"folder {path} cannot be listed: {e}")


def _list_local(file_system: fs.FileSystem, path: str) -> Entries:
    try:
        infos = list_folder(file_system, path)
    except (OSError, UnicodeDecodeError):  # one entry is enough: look at each by itself
        return _list_one_by_one(file_system, path)
    known = {info.base_name for info in infos}
    wrong = {
        info.base_name: f"{info.path}: expected a file, got a pipe, a socket or a device"
        for info in infos
        if info.type == fs.FileType.Unknown
    }
    if os.path.isdir(path):
        for name in os.listdir(path):
            if name not in known and (problem := _describe_link(f"{path}/{name}")):
                wrong[name] = problem
    return Entries([info for info in infos if info.type != fs.FileType.Unknown], wrong)


def _list_one_by_one(file_system: fs.FileSystem, path: str) -> Entries:
    infos, wrong = [], {}
    for name in sorted(os.listdir(path)):
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(name).decode("utf-8", "backslashreplace")
            wrong[name] = f"{path}/{shown}: expected a name in UTF-8"
            continue
        try:
            info = file_system.get_file_info(f"{path}/{name}")
        except OSError as e:
            wrong[name] = f"{path}/{name} cannot be read: {e.strerror or e}"
            continue
        if info.type in (fs.FileType.File, fs.FileType.Directory):
            infos.append(info)
        elif info.type == fs.FileType.Unknown:
            wrong[name] = f"{info.path}: expected a file, got a pipe, a socket or a device"
        elif problem := _describe_link(info.path):
            wrong[name] = problem
    return Entries(infos, wrong)


def _describe_link(path: str) -> str:
    """Return why a link leads nowhere; "" if there is none, since somebody has removed it."""
    if not os.path.islink(path):
        return ""
    try:
        target = os.readlink(path)
        os.stat(path)
    except OSError as e:
        how = "leads in a circle" if e.errno == errno.ELOOP else "which is not there"
        return (
            f"the link {path} leads to {target}, {how}"
            if e.errno != errno.ELOOP
            else (f"the link {path} {how}")
        )
    return ""
