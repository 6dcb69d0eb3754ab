"""Files of dead letters: those of a run in its partition's folder, put away and brought back."""

from __future__ import annotations

from pyarrow import fs

from transforms.io.filesystems import list_folder, move_file, resolve
from transforms.io.layout import REPLACED_FOLDER, dead_letters_root, run_id_in, safe_folder


def find_letter_files(output: str, partition: str, run_id: str) -> tuple[fs.FileSystem, list[str]]:
    """Return the file system, and the files of a run's dead letters that are published."""
    file_system, root = resolve(dead_letters_root(output))
    return file_system, _files_of(file_system, f"{root}/{safe_folder(partition)}", run_id)


def put_away_letters(output: str, partition: str, run_id: str) -> None:
    """Put away the dead letters of a run whose scores the partition no longer holds."""
    file_system, root = resolve(dead_letters_root(output))
    _move(file_system, f"{root}/{safe_folder(partition)}", f"{root}/{REPLACED_FOLDER}", run_id)


def bring_back_letters(output: str, partition: str, run_id: str) -> None:
    """Bring back the dead letters of a run whose scores the partition holds again."""
    file_system, root = resolve(dead_letters_root(output))
    _move(file_system, f"{root}/{REPLACED_FOLDER}", f"{root}/{safe_folder(partition)}", run_id)


def _files_of(file_system: fs.FileSystem, folder: str, run_id: str) -> list[str]:
    infos = list_folder(file_system, folder) if run_id else []
    return [info.path for info in infos if run_id_in(info.base_name) == run_id]


def _move(file_system: fs.FileSystem, source: str, target: str, run_id: str) -> None:
    for path in _files_of(file_system, source, run_id):
        move_file(file_system, path, f"{target}/{path.rsplit('/', 1)[-1]}")
