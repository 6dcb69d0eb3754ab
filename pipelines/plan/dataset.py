"""The dataset to score: its partitions, and the selected ones."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import pyarrow as pa

from scoreline.lake.files.dataset import list_dataset
from scoreline.lake.files.partitions import (
    Listing,
    Partition,
    PartitionSpec,
    columns_of,
    newest,
    parse_partition_path,
)
from scoreline.lake.files.schema_file import read_schema_file
from scoreline.models.suggest import suggest
from scoreline.pipelines.options.dataset import DatasetSettings
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.reader import find_secret


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """The dataset to score, and its options.

    Attributes:
      settings: its settings.
      listing: the selected partitions.
      given: the schema of `--schema`; None if it is not given.
    """

    settings: DatasetSettings
    listing: Listing
    given: pa.Schema | None = None

    @property
    def format(self) -> str:
        """The format of all files."""
        return self.listing.format

    @property
    def has_records(self) -> bool:
        """Whether rows have a column of whole tf.Examples."""
        return self.format == "tfrecord"


def find_dataset(
    settings: DatasetSettings, problems: Problems, scored: Sequence[str] = ()
) -> Dataset | None:
    """Return the selected partitions; None, with a problem, if there are none.

    None need be left if the table of scores has some: `scored` are their hive paths, if those whose
    input was withdrawn are meant too.
    """
    if not settings.root or find_secret("", settings.root):
        return None  # reported with the options

    def choose(listing: Listing) -> Sequence[Partition]:
        return _choose_newest(settings, _select(settings, listing, scored, problems), problems)

    try:
        listing = list_dataset(settings.root, settings.partitions, choose)
    except (ValueError, OSError) as e:
        problems.add_error(e, "--input")
        return None
    problems.add_all(listing.problems)
    if not listing.partitions and (problems or not scored):
        return None
    if not any(partition.files for partition in listing.partitions):
        return Dataset(settings=settings, listing=listing)  # the format is unknown
    if settings.csv_escape and listing.format != "csv":
        problems.add(
            f"--csv_escape: expected CSV files, got {listing.format} files. Leave the option out"
        )
    return Dataset(
        settings=settings,
        listing=listing,
        given=_given_schema(settings, listing.format, problems),
    )


def _select(
    settings: DatasetSettings, listing: Listing, scored: Sequence[str], problems: Problems
) -> list[Partition]:
    """Return the partitions that `--partitions` selects."""
    found = listing.partitions
    known = [parse_partition_path(path) for path in scored]
    if not listing.problems and not found and not settings.partitions and not scored:
        problems.add(
            f"--input: expected folders column=value with *.parquet files, or another format of "
            f"docs/inputs.md, got no partition in {settings.root}"
        )
    chosen: dict[str, Partition] = {}
    for spec in settings.partitions:
        matched = [
            p for p in found if set(spec.columns) <= set(p.columns) and spec.matches(p.values)
        ]
        if not (matched or listing.problems or any(map(spec.matches, known))):
            problems.add(_describe_no_match(settings, spec.text))
        chosen |= {p.path: p for p in matched}
    return sorted(chosen.values()) if settings.partitions else found


def _choose_newest(
    settings: DatasetSettings, chosen: Sequence[Partition], problems: Problems
) -> Sequence[Partition]:
    """Return the partitions that `--last` selects."""
    if settings.only_one:
        return chosen[-1:]
    if settings.last is None or not chosen:
        return chosen
    try:
        found = newest(chosen, settings.last)
    except ValueError as e:
        problems.add(f"--last {settings.last}: {e}")
        return chosen[-1:]
    if not found:
        problems.add(
            f"--last {settings.last}: expected partitions with values, got only {chosen[0].path}: "
            "a null is never the newest"
        )
    return found


def _describe_no_match(settings: DatasetSettings, spec: str) -> str:
    every = list_dataset(settings.root, ()).partitions
    if not every:
        return f"--partitions {spec}: no partition matches; there is none in {settings.root}"
    known = columns_of(every)
    hint = "".join(suggest(c, known) for c in PartitionSpec(spec).columns if c not in known)
    return (
        f"--partitions {spec}: no partition matches; {settings.root} has {len(every)}, from "
        f"{every[0].path} to {every[-1].path}{hint}"
    )


def _given_schema(
    settings: DatasetSettings, data_format: str, problems: Problems
) -> pa.Schema | None:
    """Return the schema of `--schema`."""
    if settings.schema is None or not os.path.isfile(settings.schema):
        return None
    try:
        return read_schema_file(settings.schema, data_format)
    except (ValueError, OSError) as e:
        problems.add_error(e, f"--schema {settings.schema}")
        return None
