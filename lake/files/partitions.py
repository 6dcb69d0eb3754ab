"""Hive partitions of a dataset: list them, select them, and identify the work on them.

All of it runs in the launcher and handles names and footers, never rows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import quote, unquote

from pyarrow import fs

from scoreline.lake.files.data_file import KNOWN_FILES, DataFile, file_format_of
from scoreline.lake.storage import list_folder

_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_INTEGER = re.compile(r"-?\d+\Z")
_LISTING_THREADS = 16

_Values = tuple[tuple[str, str], ...]


class Partition(NamedTuple):
    """The unit of commit.

    Attributes:
      path: the canonical hive path, every special character escaped: `date=2013-11-01`.
      values: pairs of partition column and value, outermost first; values are text.
      files: its data files, by name. A partition without files is legal.
      problems: why it cannot be scored, if so.
    """

    path: str
    values: tuple[tuple[str, str], ...]
    files: tuple[DataFile, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the partition columns."""
        return tuple(column for column, _ in self.values)

    @property
    def fingerprint(self) -> str:
        """Digest of its files' names, sizes and times. It changes if a file is rewritten."""
        names = [(f.path.rsplit("/", 1)[-1], f.size_bytes, f.mtime_ns) for f in self.files]
        return hashlib.sha256(json.dumps([self.path, names]).encode()).hexdigest()[:32]


def partition_path(values: Iterable[tuple[str, str]]) -> str:
    """Return the canonical hive path of partition values."""
    return "/".join(f"{quote(column, safe='')}={quote(value, safe='')}" for column, value in values)


def parse_partition_path(path: str) -> tuple[tuple[str, str], ...]:
    """Return the partition values of a canonical hive path."""
    pairs = (part.split("=", 1) for part in path.split("/"))
    return tuple((unquote(column), unquote(value)) for column, value in pairs)


def parse_folder(name: str) -> tuple[str, str]:
    """Return column and value of a hive folder's name, unescaped.

    The value may hold any character, also `/` (escaped as %2F), spaces and dots. It is never used
    as a path.

    Raises:
      ValueError: the name is not `column=value`, has a bad escape, or stands for a null.
    """
    column, equals, value = name.partition("=")
    if not equals or not column or not value:
        raise ValueError(f"expected a folder column=value, got '{name}'")
    if _BAD_ESCAPE.search(name):
        raise ValueError(f"expected % to be followed by two hex digits, got '{name}'")
    if value == _NULL_PARTITION:
        raise ValueError(f"expected a value, got a null partition ('{name}')")
    try:
        column, value = (unquote(text, errors="strict") for text in (column, value))
    except UnicodeDecodeError as e:
        raise ValueError(f"expected escaped UTF-8, got '{name}'") from e
    if not (column + value).isprintable():
        raise ValueError(f"expected printable characters only, got {name!r}")
    return column, value


class PartitionSpec:
    """A selection of partitions: by value, by interval, or by several columns as in a path.

    `date=2013-11-01`, `date=2013-11-01..2013-12-31`, `region=eu/date=2013-11-01`. An interval
    includes both ends. It compares numbers if both ends are integers, else strings, which is right
    for ISO dates.
    """

    def __init__(self, text: str) -> None:
        """Parse the text.

        Raises:
          ValueError: the text is not a valid selection; the message says why.
        """
        self.text = text
        self._tests: dict[str, Callable[[str], bool]] = {}
        for part in text.split("/"):
            column, equals, wanted = part.partition("=")
            if not equals or not column or not wanted:
                raise ValueError(
                    f"--partitions {text}: expected COLUMN=VALUE or COLUMN=FROM..TO, got '{part}'"
                )
            self._tests[unquote(column)] = _value_test(text, wanted)

    @property
    def columns(self) -> tuple[str, ...]:
        """The partition columns that it names."""
        return tuple(self._tests)

    def matches(self, values: Sequence[tuple[str, str]]) -> bool:
        """Return whether partition values, or the outer ones known so far, can match."""
        known = dict(values)
        return all(test(known[column]) for column, test in self._tests.items() if column in known)


def _value_test(text: str, wanted: str) -> Callable[[str], bool]:
    first, dots, last = wanted.partition("..")
    if not dots or not (first and last):  # "." and ".." are values like any other
        return lambda value: value == unquote(wanted)
    first, last = unquote(first), unquote(last)
    if _INTEGER.match(first) and _INTEGER.match(last):
        low, high = int(first), int(last)
        if low > high:
            raise ValueError(f"--partitions {text}: {first} is after {last}")
        return lambda value: bool(_INTEGER.match(value)) and low <= int(value) <= high
    if first > last:
        raise ValueError(f"--partitions {text}: {first} is after {last}")
    return lambda value: first <= value <= last


class Listing(NamedTuple):
    """What a dataset's folders hold.

    Attributes:
      partitions: the selected partitions, sorted by path.
      problems: problems of the dataset as a whole.
      format: the format of all its files, one of `scoreline.lake.files.data_file.SUFFIXES`.
      version: the version of the Delta table that was listed; None for plain folders.
    """

    partitions: list[Partition]
    problems: list[str]
    format: str = "parquet"
    version: int | None = None


def list_partitions(
    file_system: fs.FileSystem, root: str, specs: Sequence[PartitionSpec]
) -> Listing:
    """Find the partitions of a dataset; folders that no spec can match are not listed.

    Names that start with `_` or `.` are skipped, as in Hive and Spark. Any other name that is not a
    partition folder or a data file is a problem: of its partition, or of the dataset if it is
    above the partitions. Data files of several formats are a problem too.
    """
    infos = list_folder(file_system, root)
    if file_system.get_file_info(root).type != fs.FileType.Directory:
        return Listing(
            [], [f"--input: expected a folder of partitions, got {root}: no such folder"]
        )
    found: list[Partition] = []
    problems: list[str] = []
    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        level: list[tuple[_Values, list[fs.FileInfo]]] = [((), infos)]
        while level:
            folders = []
            for values, entries in level:
                inner, partition = _sort_entries(values, entries, specs, problems)
                folders += inner
                if partition is not None:
                    found.append(partition)
            listed = pool.map(lambda folder: list_folder(file_system, folder[1]), folders)
            level = [
                (values, entries) for (values, _), entries in zip(folders, listed, strict=True)
            ]
    problems += find_shape_problems(root, found)
    formats = _sort_formats(found)
    if len(formats) > 1:
        examples = " and ".join(formats[name] for name in sorted(formats))
        problems.append(
            f"--input: expected files of one format, got {examples}. Keep one of them in {root}, "
            "or narrow --partitions down to those of one format"
        )
    return Listing(sorted(found), problems, next(iter(formats), "parquet"))


def _sort_formats(partitions: Iterable[Partition]) -> dict[str, str]:
    """Return the formats of the partitions' files, each with the path of one file."""
    formats: dict[str, str] = {}
    for partition in partitions:
        for file in partition.files:
            formats.setdefault(file_format_of(file.path), file.path)
    return formats


def _sort_entries(
    values: _Values,
    entries: Sequence[fs.FileInfo],
    specs: Sequence[PartitionSpec],
    problems: list[str],
) -> tuple[list[tuple[_Values, str]], Partition | None]:
    """Return the partition folders among a folder's entries, or the partition it is."""
    visible = [e for e in entries if not e.base_name.startswith(("_", "."))]
    folders = [e for e in visible if e.type == fs.FileType.Directory]
    files = [e for e in visible if e.type == fs.FileType.File]
    inner: list[tuple[_Values, str]] = []
    wrong: list[str] = []
    for folder in folders:
        try:
            deeper = (*values, parse_folder(folder.base_name))
        except ValueError as e:
            wrong.append(f"{folder.path}: {e}")
            continue
        if not specs or any(spec.matches(deeper) for spec in specs):
            inner.append((deeper, folder.path))
    data: list[fs.FileInfo] = []
    other: list[fs.FileInfo] = []
    for file in files:
        (data if file_format_of(file.base_name) else other).append(file)
    wrong += [f"{file.path}: expected {KNOWN_FILES} files only" for file in other]
    if not values:
        problems += wrong
        problems += [f"{f.path}: expected partition folders column=value here" for f in data]
        return inner, None
    if folders and data:
        wrong.append(f"{data[0].path}: expected files only below the innermost partition folder")
    if folders and not wrong:
        return inner, None
    infos = tuple(DataFile(f.path, f.size, f.mtime_ns or 0) for f in data)
    return inner, Partition(partition_path(values), values, infos, tuple(wrong))


def find_shape_problems(root: str, partitions: Sequence[Partition]) -> list[str]:
    """Return why partitions cannot belong to one dataset; none if they can."""
    shapes: dict[tuple[str, ...], str] = {}
    paths: dict[str, int] = {}
    for partition in partitions:
        shapes.setdefault(partition.columns, partition.path)
        paths[partition.path] = paths.get(partition.path, 0) + 1
    problems = [
        f"--input: several folders of {root} name the same partition {path}"
        for path, count in paths.items()
        if count > 1
    ]
    if len(shapes) > 1:
        examples = " and ".join(sorted(shapes.values()))
        problems.append(
            f"--input: expected the same partition columns everywhere, got {examples} in {root}"
        )
    return problems


def newest(partitions: Sequence[Partition], count: int | None) -> list[Partition]:
    """Return the last partitions in the order of their values; all of them without a count.

    Integers are ordered as numbers, other values as strings, which is right for ISO dates.
    """
    if count is None:
        return list(partitions)

    def order(partition: Partition) -> list[tuple[bool, int, str]]:
        return [
            (False, int(value), "") if _INTEGER.match(value) else (True, 0, value)
            for _, value in partition.values
        ]

    return sorted(sorted(partitions, key=order)[-count:])


def run_id_of(partition: Partition, configuration: Mapping[str, object]) -> str:
    """Return the identity of the work on a partition: 15 hex digits, the same for the same work.

    Args:
      partition: the partition; its fingerprint counts.
      configuration: everything that changes values: model digest, signature, columns, fills.
    """
    work = json.dumps([partition.fingerprint, configuration], sort_keys=True, default=str)
    return hashlib.sha256(work.encode()).hexdigest()[:15]
