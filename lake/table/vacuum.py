"""Remove files that no version, reader or running job needs any more."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import NamedTuple

from deltalake import DeltaTable
from pyarrow import fs

from scoreline.lake.storage import resolve, table_uri
from scoreline.lake.table.layout import (
    REPLACED_FOLDER,
    STAGED_FOLDER,
    dead_letters_root,
    failures_folder,
    own_folder,
)


class Vacuumed(NamedTuple):
    """Files that were removed, or would be: paths below the table's or the dead letters' root."""

    data_files: list[str]
    leftovers: list[str]


def vacuum_table(output: str, keep_hours: int, *, dry_run: bool = True) -> Vacuumed:
    """Remove data files that no version within the grace period names, and older leftovers.

    Leftovers are staged files without a commit, receipts, outcomes, dead letters of runs that
    failed or were replaced, and hidden files of killed workers. Readers of a version younger than
    the grace period, and jobs that run for less, are not affected.

    Args:
      output: the table.
      keep_hours: the grace period.
      dry_run: only report what would be removed.
    """
    table = DeltaTable(table_uri(output))
    file_system, root = resolve(output)
    vacuum = functools.partial(
        table.vacuum, retention_hours=keep_hours, enforce_retention_duration=False, full=True
    )
    removed = _existing(file_system, root, vacuum(dry_run=True))
    if removed and not dry_run:
        vacuum(dry_run=False)
    before_ns = time.time_ns() - keep_hours * 3600 * 10**9
    leftovers = sorted(info.path for info in _old_leftovers(output, before_ns))
    if not dry_run:
        for path in leftovers:
            with contextlib.suppress(FileNotFoundError):  # another run has removed it
                file_system.delete_file(path)
    return Vacuumed(sorted(removed), leftovers)


def _existing(file_system: fs.FileSystem, root: str, paths: list[str]) -> list[str]:
    """Return those of a table's files that exist: the log names removed ones for ten years."""
    infos = file_system.get_file_info([f"{root}/{path}" for path in paths]) if paths else []
    there = zip(paths, infos, strict=True)
    return [path for path, info in there if info.type == fs.FileType.File]


def _old_leftovers(output: str, before_ns: int) -> Iterator[fs.FileInfo]:
    """Yield files that deltalake's vacuum ignores: names with "_", and other roots."""
    file_system, root = resolve(output)
    _, letters = resolve(dead_letters_root(output))
    for info in _files(file_system, own_folder(root)):
        is_failure = info.path.startswith(f"{failures_folder(root)}/")
        if (info.mtime_ns or 0) < before_ns and not is_failure:
            yield info
    waiting = (f"{letters}/{STAGED_FOLDER}/", f"{letters}/{REPLACED_FOLDER}/")
    for info in _files(file_system, letters):
        is_hidden = info.base_name.startswith(".part-") and info.base_name.endswith(".tmp")
        if (info.mtime_ns or 0) < before_ns and (is_hidden or info.path.startswith(waiting)):
            yield info


def _files(file_system: fs.FileSystem, folder: str) -> Iterator[fs.FileInfo]:
    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    yield from (i for i in file_system.get_file_info(selector) if i.type == fs.FileType.File)
