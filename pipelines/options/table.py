"""Flags about the table of scores: where it is, what is scored again, what may be published."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.pipelines.options.command_parser import WHAT, WHERE, CommandParser
from scoreline.pipelines.options.reader import OptionReader

REPROCESS = ("none", "failed", "stale", "all")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TableSettings:
    """Checked settings about the table and what is published in it.

    Attributes:
      output: where the table is.
      reprocess: which of the partitions that are meant are scored; one of REPROCESS.
      max_dead_letter_ratio: the share of a partition's rows that may be dead letters.
    """

    output: str
    reprocess: str = "none"
    max_dead_letter_ratio: float = 0.01


def add_output_flag(parser: CommandParser, meaning: str) -> None:
    """Declare `--output`."""
    parser.group(WHERE).add_argument("--output", metavar="PATH", help=meaning)


def add_publish_flags(parser: CommandParser) -> None:
    """Declare what is scored again, and what may be published."""
    parser.group(WHAT).add_argument(
        "--reprocess",
        metavar="|".join(REPROCESS),
        default="none",
        help="none: score what is not committed (default). failed: only what failed last time. "
        "stale: also what is committed, but whose input changed since. all: everything again",
    )
    parser.group(WHERE).add_argument(
        "--max_dead_letter_ratio",
        metavar="R",
        default="0.01",
        help="publish no partition with a larger share of rows that failed (default: 0.01)",
    )


def read_table(given: argparse.Namespace, read: OptionReader) -> TableSettings:
    """Return the settings; adds what is wrong with them to the problems."""
    return TableSettings(
        output=read.place("--output", given.output),
        reprocess=read.choice("--reprocess", given.reprocess, REPROCESS),
        max_dead_letter_ratio=read.ratio("--max_dead_letter_ratio", given.max_dead_letter_ratio),
    )
