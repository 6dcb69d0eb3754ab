"""Flags of rows: keys, columns to keep, and valid outputs."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.models.fit import DIGEST_COLUMN, FitOptions
from scoreline.pipelines.options.command_parser import WHAT, WHERE, CommandParser
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.reader import OptionReader


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KeySettings:
    """The columns to copy: keys, which identify a row, and others to keep."""

    keys: tuple[str, ...]
    keep: tuple[str, ...] = ()

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns to copy from the input: keys, then kept columns."""
        return (*self.keys, *self.keep)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RuleSettings:
    """The valid numbers of outputs.

    Attributes:
      forbid: `nan`, `inf` or both.
      ranges: minimum and maximum by output.
    """

    forbid: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)


def add_key_flags(parser: CommandParser) -> None:
    """Declare `--keys` and `--keep`."""
    what = parser.group(WHAT)
    what.add_argument(
        "--keys",
        metavar="C,…",
        help="columns that identify a row, copied to the output; not partition columns alone",
    )
    what.add_argument("--keep", metavar="C,…", help="further columns to copy to the output")


def add_rule_flags(parser: CommandParser, title: str = WHERE) -> None:
    """Declare `--forbid` and `--range`."""
    where = parser.group(title)
    where.add_argument(
        "--forbid",
        metavar="nan,inf",
        help="forbidden numbers: a row with one in an output is a dead letter",
    )
    where.add_argument(
        "--range",
        metavar="T=FROM..TO",
        action="append",
        help="valid range of output T, for example score=0..1; a row outside, or with NaN, is a "
        "dead letter; repeatable",
    )


def read_keys(given: argparse.Namespace, read: OptionReader) -> KeySettings:
    """Return the settings, and add all problems."""
    return KeySettings(
        keys=read.names("--keys", read.required("--keys", given.keys)),
        keep=read.names("--keep", given.keep or ""),
    )


def read_rules(given: argparse.Namespace, read: OptionReader) -> RuleSettings:
    """Return the settings, and add all problems."""
    return RuleSettings(forbid=read.forbidden(given.forbid or ""), ranges=read.ranges(given.range))


def check_column_names(keys: KeySettings, fit: FitOptions, problems: Problems) -> None:
    """Add a problem for each duplicate name of an output column."""
    columns = [fit.output_column(name)[0] for name in fit.outputs or ()]
    names = [*keys.carried, *columns, DIGEST_COLUMN]
    for name in dict.fromkeys(n for n in names if names.count(n) > 1):
        problems.add(
            f"output column '{name}' comes from more than one of --keys, --keep, --outputs and "
            f"{DIGEST_COLUMN}. Rename an output with --outputs T=COLUMN, or name it once"
        )
