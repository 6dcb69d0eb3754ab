"""Flags of the dataset: its path, schema, partitions and limits."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.lake.files.data_file import MAX_BATCH_BYTES, MAX_VALUE_BYTES, Limits
from scoreline.lake.files.partitions import PartitionSpec
from scoreline.pipelines.options.command_parser import HOW, WHAT, CommandParser
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.reader import OptionReader


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSettings:
    """Checked settings of the dataset.

    Attributes:
      root: `--input`; "" if it is not given.
      schema: the file of `--schema`; None if it is not given.
      allow_missing: by column, the value for files that lack it.
      partitions: the selected partitions; empty for all.
      last: number of newest partitions to select; None for all.
      only_one: whether one partition is enough, because an option is wrong.
      limits: maximum sizes of decoded data.
      csv_escape: the character that escapes quotation marks of CSV; "" if it is not given.
    """

    root: str
    schema: str | None = None
    allow_missing: dict[str, str] = dataclasses.field(default_factory=dict)
    partitions: tuple[PartitionSpec, ...] = ()
    last: int | None = None
    only_one: bool = False
    limits: Limits = dataclasses.field(default_factory=Limits)
    csv_escape: str = ""


def add_flags(parser: CommandParser) -> None:
    """Declare the flags of a dataset of partitions."""
    what = parser.group(WHAT)
    what.add_argument(
        "--input",
        metavar="PATH",
        help="root of the dataset: PATH/<column>=<value>/… with files *.parquet, "
        "*.tfrecord[.gz], *.csv[.gz] or *.jsonl[.gz], all of one format; or a Delta table",
    )
    what.add_argument(
        "--schema",
        metavar="FILE",
        help="types of the columns: schema.pbtxt of tensorflow-metadata for TFRecord, JSON as "
        '{"id": "int64"} for CSV and JSON Lines (default: inferred from the first files)',
    )
    what.add_argument(
        "--allow_missing",
        metavar="C=VALUE",
        action="append",
        help="value of column C for files that lack it, or null; repeatable. Without it that is an "
        "error",
    )
    what.add_argument(
        "--csv_escape",
        metavar="C",
        help="character that escapes quotation marks in quoted fields of CSV: a backslash in files "
        "of Spark (default: marks are doubled)",
    )
    add_partition_flags(parser)
    what.add_argument(
        "--last",
        metavar="N",
        help="select the N newest partitions, so that a nightly job catches up by itself",
    )
    _add_limit_flags(parser)


def _add_limit_flags(parser: CommandParser) -> None:
    how = parser.group(HOW)
    how.add_argument(
        "--max_value_bytes",
        metavar="N",
        default=str(MAX_VALUE_BYTES),
        help="maximum size of one decoded value, line or record; a larger one fails its "
        "partition (default: 64 MiB)",
    )
    how.add_argument(
        "--max_batch_bytes",
        metavar="N",
        default=str(MAX_BATCH_BYTES),
        help="maximum size of a decoded record batch: large rows make smaller batches "
        "(default: 256 MiB)",
    )


def add_partition_flags(parser: CommandParser) -> None:
    """Declare `--partitions`."""
    parser.group(WHAT).add_argument(
        "--partitions",
        metavar="SPEC",
        action="append",
        help="date=2013-11-01, date=2013-11-01..2013-12-31 or region=eu/date=2013-11-01; "
        "repeatable; default: all",
    )


def read_dataset(given: argparse.Namespace, read: OptionReader) -> DatasetSettings:
    """Return the settings, and add all problems."""
    specs = read.specs(given.partitions)
    last = None if given.last is None else read.positive("--last", given.last)
    limits = Limits(
        read.positive("--max_value_bytes", given.max_value_bytes),
        read.positive("--max_batch_bytes", given.max_batch_bytes),
    )
    _check_limits(limits, read.problems)
    return DatasetSettings(
        root=read.place("--input", given.input),
        schema=read.file("--schema", given.schema),
        allow_missing=read.values("--allow_missing", given.allow_missing, "C=VALUE"),
        partitions=specs,
        last=last,
        # Nothing will be scored then; one partition is enough to find other problems.
        only_one=bool(given.partitions and not specs),
        limits=limits,
        csv_escape=_read_escape(given.csv_escape, read.problems),
    )


def _read_escape(text: str | None, problems: Problems) -> str:
    """Return the escape character; "" if it is not given or wrong."""
    if not text:
        if text is not None:
            problems.add("--csv_escape: expected one character, got none")
        return ""
    is_plain = len(text) == 1 and text.isascii() and text.isprintable() and not text.isalnum()
    if is_plain and text not in ", ":
        return text
    problems.add(
        f"--csv_escape: expected one ASCII punctuation character other than a comma, got '{text}'"
    )
    return ""


def _check_limits(limits: Limits, problems: Problems) -> None:
    """Add a problem if a value may be larger than its batch."""
    value_bytes, batch_bytes = limits
    if value_bytes > batch_bytes:
        problems.add(
            f"--max_value_bytes: expected at most --max_batch_bytes, which is "
            f"{batch_bytes}, got {value_bytes}"
        )
