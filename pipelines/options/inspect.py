"""The flags of `scoreline inspect`, and the checked settings they become."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.lake.files.data_file import MAX_BATCH_BYTES, MAX_VALUE_BYTES
from scoreline.pipelines.options import dataset as dataset_flags
from scoreline.pipelines.options import model as model_flags
from scoreline.pipelines.options.command_parser import MODEL, CommandParser
from scoreline.pipelines.options.dataset import DatasetSettings, read_dataset
from scoreline.pipelines.options.model import ModelSettings, read_model
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.reader import OptionReader
from scoreline.pipelines.options.rows import RuleSettings, add_rule_flags, read_rules

USAGE = "scoreline inspect --model PATH [--input PATH] [options]"
DESCRIPTION = """\
Show what a model is, how a dataset's columns feed it, and its scores of the first rows.

Without --input nothing of the model is run. Exit codes: 0 the model can be read and, with --input,
scores rows of it; 1 it fails on them; 2 options, model or dataset are wrong, or columns do not fit.
"""

# Flags about rows, of which there are none without --input; and their defaults that are not None.
_DEFAULTS = {
    "batch_rows": "auto",
    "max_value_bytes": str(MAX_VALUE_BYTES),
    "max_batch_bytes": str(MAX_BATCH_BYTES),
}
_OF_ROWS = (
    *("schema", "allow_missing", "partitions", "last", "columns", "fill", "pad", "truncate"),
    *("outputs", "load_op_library", "batch_timeout_s", "forbid", "range", *_DEFAULTS),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InspectSettings:
    """Checked settings of an inspection.

    Attributes:
      dataset: the dataset whose first rows are scored; its root is "" when there is none.
      model, rules: by family of flags.
    """

    dataset: DatasetSettings
    model: ModelSettings
    rules: RuleSettings


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    dataset_flags.add_flags(parser)
    model_flags.add_flags(parser)
    add_rule_flags(parser, MODEL)


def read_inspect(given: argparse.Namespace, problems: Problems) -> InspectSettings:
    """Return the settings; adds everything that is wrong with them to the problems."""
    read = OptionReader(problems, ("--model",))
    if not given.input:
        for name in _OF_ROWS:
            if getattr(given, name) != _DEFAULTS.get(name):
                problems.add_usage(f"--{name} is for --input; leave it out, or give both")
    return InspectSettings(
        dataset=read_dataset(given, read),
        model=read_model(given, read),
        rules=read_rules(given, read),
    )
