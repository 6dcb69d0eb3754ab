"""The flags of `scoreline inspect`, and their checked settings."""

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
Show a model's signatures, the columns of a dataset that feed it, and its scores of the first rows.

Without --input the model is not run. Exit codes: 0 the model can be read and, with --input, scores
rows; 1 it fails on them; 2 options, model or dataset are wrong, or columns do not fit.
"""

# Flags that need rows, and so --input, with their defaults if these are not None.
_DEFAULTS = {
    "batch_rows": "auto",
    "max_value_bytes": str(MAX_VALUE_BYTES),
    "max_batch_bytes": str(MAX_BATCH_BYTES),
}
_OF_ROWS = (
    *("schema", "allow_missing", "partitions", "last", "columns", "fill", "pad", "truncate"),
    *("pad_length", "allow_impure"),
    *("outputs", "load_op_library", "batch_timeout_s", "forbid", "range", *_DEFAULTS),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InspectSettings:
    """Checked settings of an inspection.

    Attributes:
      dataset: the dataset of the rows; its root is "" if there is none.
      model, rules: settings of each family of flags.
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
    """Return the settings, and add all problems."""
    read = OptionReader(problems, ("--model",))
    if not given.input:
        for name in _OF_ROWS:
            if getattr(given, name) != _DEFAULTS.get(name):
                problems.add_usage(f"--{name} needs --input; leave it out, or set both")
    return InspectSettings(
        dataset=read_dataset(given, read),
        model=read_model(given, read),
        rules=read_rules(given, read),
    )
