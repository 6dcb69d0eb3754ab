"""The flags of `scoreline batch`, and their checked settings."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.pipelines.options import dataset as dataset_flags
from scoreline.pipelines.options import model as model_flags
from scoreline.pipelines.options.command_parser import CommandParser
from scoreline.pipelines.options.dataset import DatasetSettings, read_dataset
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
from scoreline.pipelines.options.run import add_check_flag, add_worker_flag, available_cpus
from scoreline.pipelines.options.table import (
    TableSettings,
    add_output_flag,
    add_publish_flags,
    read_table,
)

USAGE = "scoreline batch --input PATH --model PATH --keys C,… --output PATH [options]"
DESCRIPTION = """\
Score partitions of a dataset with a TensorFlow model into a Delta table.

Exit codes: 0 every row is scored and published (or nothing was left to do); 1 a partition could not
be published, or the job failed; 2 options, dataset, model or table are wrong, found before the
first row; 3 everything is published, and some rows are dead letters; 130 stopped by Ctrl-C.
"""
_NEEDED = ("--input", "--output", "--model", "--keys")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BatchSettings:
    """Checked settings of a batch scoring job.

    Attributes:
      dataset, model, keys, rules, table: settings of each family of flags.
      workers: number of parallel workers.
      concurrent_calls: number of parallel model calls in a worker process.
      check: whether to plan only.
    """

    dataset: DatasetSettings
    model: ModelSettings
    keys: KeySettings
    rules: RuleSettings
    table: TableSettings
    workers: int = 1
    concurrent_calls: int = 1
    check: bool = False


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    dataset_flags.add_flags(parser)
    add_key_flags(parser)
    model_flags.add_flags(parser)
    add_output_flag(parser, "Delta table of scores, partitioned like the input")
    add_rule_flags(parser)
    add_publish_flags(parser)
    add_worker_flag(parser)
    add_check_flag(parser, "check everything, print the plan and first scores, write nothing")


def read_batch(given: argparse.Namespace, problems: Problems) -> BatchSettings:
    """Return the settings, and add all problems."""
    read = OptionReader(problems, _NEEDED)
    is_auto = given.workers is None
    workers = available_cpus() if is_auto else read.positive("--workers", given.workers)
    settings = BatchSettings(
        dataset=read_dataset(given, read),
        model=read_model(given, read),
        keys=read_keys(given, read),
        rules=read_rules(given, read),
        table=read_table(given, read),
        workers=workers,
        concurrent_calls=workers,
        check=given.check,
    )
    check_column_names(settings.keys, settings.model.fit, problems)
    return settings
