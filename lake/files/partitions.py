"""Hive partitions of a dataset: their names, their selection, and the identity of the work on them.

All of it runs in the launcher and handles names and footers, never rows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

import pyarrow as pa

from scoreline.lake.files.data_file import DataFile
from scoreline.lake.files.order import order_of, orders_of

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Partition(NamedTuple):
    """The unit of commit.

    Attributes:
      path: the canonical hive path, every special character escaped: `date=2013-11-01`.
      values: pairs of partition column and value, outermost first; values are text.
      files: its data files, by name. A partition without files is legal.
      problems: why it cannot be scored, if so.
      lacks_value: whether a value is a null, or cannot be read: it has no place in the order.
    """

    path: str
    values: tuple[tuple[str, str], ...]
    files: tuple[DataFile, ...] = ()
    problems: tuple[str, ...] = ()
    lacks_value: bool = False

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
    if value == NULL_PARTITION:
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
    includes both ends. Numbers are compared as numbers, also within dates (`2024-2-9`), and other
    values as strings. A null is in no interval.
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
                escape = ". Write a slash within a value as %2F" if "=" not in part else ""
                raise ValueError(
                    f"--partitions {text}: expected COLUMN=VALUE or COLUMN=FROM..TO, got "
                    f"'{part}'{escape}"
                )
            self._tests[unquote(column)] = _value_test(text, wanted)

    @property
    def is_exact(self) -> bool:
        """Whether it names values only, and no interval."""
        return ".." not in self.text

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
    low, high = order_of(first), order_of(last)
    if low is None or high is None or low.shape != high.shape:
        if first > last:
            raise ValueError(f"--partitions {text}: {first} is after {last}")
        return lambda value: first <= value <= last and value != NULL_PARTITION
    if low > high:
        raise ValueError(f"--partitions {text}: {first} is after {last}")
    shape = low.shape

    def is_between(value: str) -> bool:
        place = order_of(value)
        if place is not None and place.shape == shape:
            return low <= place <= high
        return shape != "#" and first <= value <= last and value != NULL_PARTITION

    return is_between


class Listing(NamedTuple):
    """What a dataset's folders hold.

    Attributes:
      partitions: the selected partitions, sorted by path.
      problems: problems of the dataset as a whole.
      format: the format of its files, one of `scoreline.lake.files.formats.FORMATS`.
      version: the version of the Delta table that was listed; None for plain folders.
      passed_over: files that belong to no partition, and are not read.
      schema: the columns of the Delta table; None for plain folders.
    """

    partitions: list[Partition]
    problems: list[str]
    format: str = "parquet"
    version: int | None = None
    passed_over: Sequence[str] = ()
    schema: pa.Schema | None = None


def find_shape_problems(root: str, partitions: Sequence[Partition]) -> list[str]:
    """Return why partitions cannot belong to one dataset; none if they can.

    What fails by itself may lack columns: a folder that cannot be listed hides the inner ones.
    """
    shapes: dict[tuple[str, ...], str] = {}
    paths: dict[str, int] = {}
    for partition in partitions:
        if not partition.problems:
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


def columns_of(partitions: Sequence[Partition]) -> tuple[str, ...]:
    """Return the partition columns of a dataset."""
    sound = (partition for partition in partitions if not partition.problems)
    return next(sound, partitions[0]).columns if partitions else ()


def newest(partitions: Sequence[Partition], count: int) -> list[Partition]:
    """Return the newest partitions, sorted by path; none that lacks a value.

    They are ordered by the columns whose values have an order, outermost first.

    Raises:
      ValueError: it is unknown which are newer; the message names two of them.
    """
    meant = [partition for partition in partitions if not partition.lacks_value]
    if len(meant) <= count:
        return sorted(meant)
    values = [dict(partition.values) for partition in meant]
    columns = dict.fromkeys(column for held in values for column in held)
    orders = {
        column: found
        for column in columns
        if (found := orders_of(held[column] for held in values if column in held))
    }

    def place(partition: Partition) -> list[tuple[int, ...]]:
        held = dict(partition.values)
        return [
            found[held[column]].key if column in held else () for column, found in orders.items()
        ]

    ranked = sorted(sorted(meant), key=place)
    before, first = ranked[-count - 1], ranked[-count]
    if place(before) == place(first):
        raise ValueError(
            f"expected partitions whose order is known, got {before.path} and {first.path}. Dates "
            "begin with the year, in one form. Name the partitions with --partitions"
        )
    return sorted(ranked[-count:])


def run_id_of(
    partition: Partition, configuration: Mapping[str, object], fingerprint: str = ""
) -> str:
    """Return the identity of the work on a partition: 15 hex digits, the same for the same work.

    Args:
      partition: the partition; its fingerprint counts.
      fingerprint: another fingerprint to count instead.
      configuration: everything that changes values: model digest, signature, columns, fills.
    """
    counted = [fingerprint or partition.fingerprint, configuration]
    work = json.dumps(counted, sort_keys=True, default=str)
    return hashlib.sha256(work.encode()).hexdigest()[:15]
