"""Lists the partitions of a dataset of hive folders.

What is odd costs the partition that it is in, and no other. Above the partitions, data files cost
all partitions below them; other files are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pyarrow import fs

from scoreline.lake.files.data_file import DataFile
from scoreline.lake.files.entries import Entries, list_entries
from scoreline.lake.files.names import describe_unknown, file_format_of
from scoreline.lake.files.partitions import (
    Listing,
    Partition,
    PartitionSpec,
    find_shape_problems,
    parse_folder,
    partition_path,
)

_LISTING_THREADS = 16
# Tools of EMR mark a folder with an empty file beside or within it.
_MARKER = "_$folder$"
# What tables keep in their folders. Their live files are listed elsewhere.
_TABLES = {"_delta_log": "Delta", ".hoodie": "Hudi", ".hoodie_partition_metadata": "Hudi"}

_Values = tuple[tuple[str, str], ...]
Choose = Callable[[Listing], Sequence[Partition]]


def list_partitions(
    file_system: fs.FileSystem,
    root: str,
    specs: Sequence[PartitionSpec],
    choose: Choose | None = None,
) -> Listing:
    """Find the partitions of a dataset; folders that no spec can match are not listed.

    Names that start with `_` or `.` are skipped, as in Spark, but not folders `_column=value`.

    Args:
      file_system: where the dataset is.
      root: its folder.
      specs: the selection; empty for all.
      choose: returns those of the found partitions that are meant; None for all.

    Raises:
      OSError: the root cannot be listed, or the store does not answer.
    """
    entries = list_entries(file_system, root)
    if file_system.get_file_info(root).type != fs.FileType.Directory:
        return Listing(
            [], [f"--input: expected a folder of partitions, got {root}: no such folder"]
        )
    if entries.error:
        return Listing([], [f"--input: {entries.error}"])
    walk = _Walk(specs)
    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        level: list[tuple[_Values, Entries]] = [((), entries)]
        while level:
            folders = [folder for values, held in level for folder in walk.visit(values, held)]
            listed = pool.map(lambda folder: list_entries(file_system, folder[1]), folders)
            level = [(values, held) for (values, _), held in zip(folders, listed, strict=True)]
    found = walk.partitions()
    problems = [*walk.spoiled.get((), ()), *find_shape_problems(root, found)]
    listing = Listing(sorted(found), problems)
    if choose is not None:
        listing = listing._replace(partitions=list(choose(listing)))
    return _settle_format(root, listing, walk)


class _Loose(NamedTuple):
    """A file above the innermost partition folders."""

    values: _Values
    path: str
    data_format: str


class _Walk:
    """What was found so far on the way through the folders.

    Attributes:
      found: the partitions.
      spoiled: the problems of all partitions below some values.
      loose: files above the innermost folders.
      formats: by partition, the formats of its files, each with the path of one.
    """

    def __init__(self, specs: Sequence[PartitionSpec]) -> None:
        self._specs = specs
        self.found: list[Partition] = []
        self.spoiled: dict[_Values, list[str]] = {}
        self.loose: list[_Loose] = []
        self.formats: dict[str, dict[str, str]] = {}
        self._unnamed: set[_Values] = set()

    def partitions(self) -> list[Partition]:
        """Return the partitions, with the problems of the folders that they are in."""
        return [self._complete(p) for p in self.found] if self.spoiled else self.found

    def _complete(self, partition: Partition) -> Partition:
        values = partition.values
        lacks_value = any(values[:end] in self._unnamed for end in range(1, len(values) + 1))
        problems = (*_above(self.spoiled, values), *partition.problems)
        return partition._replace(problems=problems, lacks_value=lacks_value)

    def visit(self, values: _Values, entries: Entries) -> list[tuple[_Values, str]]:
        """Add what a folder holds, and return the partition folders in it that are meant."""
        if entries.error:
            self.found.append(Partition(partition_path(values), values, (), (entries.error,)))
            return []
        files: list[fs.FileInfo] = []
        inner: list[tuple[_Values, str]] = []
        odd: list[str] = []  # folders that are no partitions
        wrong = {name: text for name, text in entries.wrong.items() if not _is_hidden(name)}
        is_above = False
        for info in entries.infos:
            name = info.base_name
            if _is_hidden(name):
                if name in _TABLES:
                    self._add_table(values, info.path, _TABLES[name])
                continue
            if info.type == fs.FileType.File:
                if not (name.endswith(_MARKER) and info.size == 0):
                    files.append(info)
                continue
            pair, problem = _read_folder(name)
            if pair is None or pair[0] in dict(values):
                odd.append(f"{info.path}: {problem or 'its column is in the path twice'}")
                continue
            is_above = True
            if self._is_meant(deeper := (*values, pair)):
                inner.append((deeper, info.path))
                if problem:
                    self._unnamed.add(deeper)
                    self.spoiled.setdefault(deeper, []).append(f"{info.path}: {problem}")
        for name in [name for name in wrong if _read_folder(name)[0] is not None]:
            pair, _ = _read_folder(name)
            is_above, text = True, wrong.pop(name)
            if pair and self._is_meant(deeper := (*values, pair)):
                self.found.append(Partition(partition_path(deeper), deeper, (), (text,)))
        if is_above or not values:
            self._add_loose(values, files, odd, wrong)
        else:
            self._add_partition(values, files, [*odd, *wrong.values()])
        return inner

    def _add_partition(self, values: _Values, files: Iterable[fs.FileInfo], odd: list[str]) -> None:
        data = []
        formats: dict[str, str] = {}
        for file in files:
            path = file.path
            if found := file_format_of(path):
                data.append(DataFile(path, file.size, file.mtime_ns or 0))
                formats.setdefault(found, path)
            else:
                odd.append(describe_unknown(path))
        name = partition_path(values)
        self.formats[name] = formats
        self.found.append(Partition(name, values, tuple(data), tuple(odd)))

    def _add_table(self, values: _Values, path: str, kind: str) -> None:
        self.spoiled.setdefault(values, []).append(
            f"{path}: expected a folder of files, got a {kind} table: files that it has replaced "
            "are in its folders too. Give a Delta table itself as --input, or copy it to Parquet"
        )

    def _is_meant(self, values: _Values) -> bool:
        return not self._specs or any(spec.matches(values) for spec in self._specs)

    def _add_loose(
        self,
        values: _Values,
        files: Iterable[fs.FileInfo],
        odd: Sequence[str],
        wrong: dict[str, str],
    ) -> None:
        if odd:
            self.spoiled.setdefault(values, []).extend(odd)
        for file in files:
            self.loose.append(_Loose(values, file.path, file_format_of(file.base_name)))
        for name, text in wrong.items():
            self.loose.append(_Loose(values, text, file_format_of(name)))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _read_folder(name: str) -> tuple[tuple[str, str] | None, str]:
    """Return column and value of a folder's name, as written if they are wrong, and the problem."""
    try:
        return parse_folder(name), ""
    except ValueError as e:
        column, equals, value = name.partition("=")
        return ((column, value) if column and equals else None), str(e)


def _above(spoiled: dict[_Values, list[str]], values: _Values) -> list[str]:
    ends = range(1, len(values) + 1)
    return [text for end in ends for text in spoiled.get(values[:end], ())]


def _settle_format(root: str, listing: Listing, walk: _Walk) -> Listing:
    """Decide the format of the dataset: that of most partitions. Files of others fail theirs."""
    whole = [p for p in listing.partitions if p.files and not p.problems]
    formats = [walk.formats[p.path] for p in whole or listing.partitions if p.files]
    chosen = _most_common(formats)
    if not chosen:
        found = {name: path for held in reversed(formats) for name, path in held.items()}
        examples = " and ".join(found[name] for name in sorted(found))
        problem = (
            f"--input: expected files of one format, got {examples}. Keep one of them in {root}, "
            "or narrow --partitions down to those of one format"
        )
        return listing._replace(problems=[*listing.problems, problem])
    problems, passed_over = list(listing.problems), []
    spoiled: dict[_Values, list[str]] = {}
    for loose in walk.loose:
        if loose.data_format != chosen and (formats or not loose.data_format):
            passed_over.append(loose.path)
        elif loose.values:
            text = f"{loose.path}: expected files only below the innermost partition folder"
            spoiled.setdefault(loose.values, []).append(text)
        else:
            problems.append(f"{loose.path}: expected partition folders column=value here")
    return listing._replace(
        partitions=[
            _with_format(p, walk.formats.get(p.path, {}), chosen, spoiled)
            for p in listing.partitions
        ],
        problems=problems,
        format=chosen,
        passed_over=passed_over,
    )


def _most_common(formats: Sequence[dict[str, str]]) -> str:
    """Return the format that most partitions have; "" if it is undecided, Parquet without files."""
    if not formats:
        return "parquet"
    ranked = Counter(next(iter(held)) for held in formats if len(held) == 1).most_common(2)
    counts = [count for _, count in ranked]
    return ranked[0][0] if len(set(counts)) == len(counts) and counts else ""


def _with_format(
    partition: Partition,
    formats: dict[str, str],
    data_format: str,
    spoiled: dict[_Values, list[str]],
) -> Partition:
    problems = _above(spoiled, partition.values) if spoiled else []
    others = [path for held, path in formats.items() if held != data_format]
    if others:
        problems.append(
            f"{others[0]}: expected {data_format} files only, as in the other partitions"
        )
    if not problems:
        return partition
    return partition._replace(problems=(*partition.problems, *problems))
