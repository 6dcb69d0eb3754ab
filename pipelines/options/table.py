"""Flags of the table of scores: its path, reprocessing, and limits for publication."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.pipelines.options.command_parser import WHAT, WHERE, CommandParser
from scoreline.pipelines.options.reader import OptionReader

REPROCESS = ("none", "failed", "stale", "all")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TableSettings:
    """Checked settings of the table.

    Attributes:
      output: path or URI of the table.
      reprocess: the selected partitions to score again; one of REPROCESS.
      max_dead_letter_ratio: maximum share of dead letters among a partition's rows.
    """

    output: str
    reprocess: str = "none"
    max_dead_letter_ratio: float = 0.01


def add_output_flag(parser: CommandParser, meaning: str) -> None:
    """Declare `--output`."""
    parser.group(WHERE).add_argument("--output", metavar="PATH", help=meaning)


def add_publish_flags(parser: CommandParser) -> None:
    """Declare the flags of reprocessing and publication."""
    parser.group(WHAT).add_argument(
        "--reprocess",
        metavar="|".join(REPROCESS),
        default="none",
        help="none: score partitions that are not committed (default). failed: only those that "
        "failed last time. stale: also committed ones whose input has changed. all: all again",
    )
    parser.group(WHERE).add_argument(
        "--max_dead_letter_ratio",
        metavar="R",
        default="0.01",
        help="maximum share of dead letters in a published partition (default: 0.01)",
    )


def read_table(given: argparse.Namespace, read: OptionReader) -> TableSettings:
    """Return the settings, and add all problems."""
    return TableSettings(
        output=read.place("--output", given.output),
        reprocess=read.choice("--reprocess", given.reprocess, REPROCESS),
        max_dead_letter_ratio=read.ratio("--max_dead_letter_ratio", given.max_dead_letter_ratio),
    )
