"""The flags of `scoreline inspect`, and the checked settings they become."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.pipelines.options import dataset as dataset_flags
from scoreline.pipelines.options import model as model_flags
from scoreline.pipelines.options.dataset import DatasetSettings, read_dataset
from scoreline.pipelines.options.model import ModelSettings, read_model
from scoreline.pipelines.options.command_parser import MODEL, CommandParser
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.reader import OptionReader
from scoreline.pipelines.options.rows import RuleSettings, add_rule_flags, read_rules

USAGE = "scoreline inspect --model PATH [--input PATH] [options]"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InspectSettings:
    """Checked settings of an inspection.

    Attributes:
      dataset: the dataset whose first rows are scored; its root is "" when there is none.
      model, rules: by family of flags.
      json: whether to print JSON.
    """

    dataset: DatasetSettings
    model: ModelSettings
    rules: RuleSettings = RuleSettings()
    json: bool = False


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    dataset_flags.add_flags(parser)
    model_flags.add_flags(parser)
    add_rule_flags(parser, MODEL)
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")


def read_inspect(given: argparse.Namespace, problems: Problems) -> InspectSettings:
    """Return the settings; adds everything that is wrong with them to the problems."""
    read = OptionReader(problems, ("--model",))
    return InspectSettings(
        dataset=read_dataset(given, read),
        model=read_model(given, read),
        rules=read_rules(given, read),
        json=given.json,
    )
