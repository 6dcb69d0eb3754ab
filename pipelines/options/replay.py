"""The flags of `scoreline replay`, and their checked settings."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.lake.files.partitions import PartitionSpec
from scoreline.pipelines.options import model as model_flags
from scoreline.pipelines.options.command_parser import CommandParser
from scoreline.pipelines.options.dataset import add_partition_flags
from scoreline.pipelines.options.model import ModelSettings, read_model
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.reader import OptionReader
from scoreline.pipelines.options.rows import (
    KeySettings,
    RuleSettings,
    add_key_flags,
    add_rule_flags,
    check_column_names,
    read_keys,
    read_rules,
)
from scoreline.pipelines.options.run import add_check_flag
from scoreline.pipelines.options.table import add_output_flag

USAGE = "scoreline replay --output PATH --model PATH --keys C,… [options]"
DESCRIPTION = """\
Score dead letters again, after a fix or with another model, and add their scores to the table.

Only the dead letters of the table's current version are replayed. A second replay changes nothing.
With --check they are scored, and nothing is written. Exit codes: 0 no dead letter is left; 3 some
are left; 1 a partition could not be merged, or the store did not answer; 2 options, model or table
are wrong.
"""
_NEEDED = ("--output", "--model", "--keys")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReplaySettings:
    """Checked settings of a replay.

    Attributes:
      output: the table of scores.
      partitions: partitions whose dead letters are replayed; empty for all.
      model, keys, rules: settings of each family of flags.
      check: whether to show the result and write nothing.
    """

    output: str
    partitions: tuple[PartitionSpec, ...] = ()
    model: ModelSettings
    keys: KeySettings
    rules: RuleSettings
    check: bool = False


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    add_partition_flags(parser)
    add_key_flags(parser)
    model_flags.add_flags(parser)
    add_output_flag(parser, "Delta table of scores with the dead letters")
    add_rule_flags(parser)
    add_check_flag(parser, "score the dead letters, show the result, and write nothing")


def read_replay(given: argparse.Namespace, problems: Problems) -> ReplaySettings:
    """Return the settings, and add all problems."""
    read = OptionReader(problems, _NEEDED)
    settings = ReplaySettings(
        output=read.place("--output", given.output),
        partitions=read.specs(given.partitions),
        model=read_model(given, read),
        keys=read_keys(given, read),
        rules=read_rules(given, read),
        check=given.check,
    )
    check_column_names(settings.keys, settings.model.fit, problems)
    return settings
