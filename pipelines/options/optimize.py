"""The flags of `scoreline optimize`, and their checked settings."""

from __future__ import annotations

import argparse
import dataclasses
import math

from scoreline.pipelines.options import dataset as dataset_flags
from scoreline.pipelines.options import model as model_flags
from scoreline.pipelines.options.command_parser import HOW, WHAT, CommandParser
from scoreline.pipelines.options.dataset import DatasetSettings, read_dataset
from scoreline.pipelines.options.model import ModelSettings, read_model
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.reader import OptionReader
from scoreline.pipelines.options.rows import KeySettings

USAGE = "scoreline optimize --model PATH --input PATH --keys C,… --output DIR [options]"
DESCRIPTION = """\
Make cheaper variants of a model, and prove on your own rows which of them are as good.

Each variant is compared with the model on the selected partitions: its quality by --metric, with a
paired bootstrap, and its CPU time per row through the path that scores. The folder --output has the
admitted and refused variants, report.html and optimize.json. Score with the cheapest admitted one:

  scoreline batch --model auto:DIR …

Exit codes: 0 done, also if no variant is admitted; 2 options, dataset or model are wrong; 1 the
command failed; 130 stopped by Ctrl-C.
"""
_NEEDED = ("--input", "--output", "--model", "--keys")
# Passes, in the order in which they may follow one another.
FOLD, LITERT, INT8 = "fold_batch_norm", "litert_float32", "dynamic_int8"
PASSES = (FOLD, LITERT, INT8)
METRICS = ("auc", "log_loss", "rmse", "agreement")
_DEFAULT_ROWS, _TOLERANCE = "200000", "0.001"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """The column of what happened; with `at_least`, it happened if the value is no less."""

    column: str
    at_least: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OptimizeSettings:
    """Checked settings of an optimization.

    Attributes:
      dataset, model, keys: settings of each family of flags.
      output: the folder of the variants.
      label: the column of what happened; None for none.
      metric: one of `METRICS`; "" for the one that fits the label.
      score: the output that is measured; "" for the only one.
      tolerance: how much worse a variant may be: a number, or the name of a preset.
      slices: columns whose values are compared one by one.
      threshold: the score from which on a decision is positive; None for none.
      recipes: names of the passes of each variant; () for all that fit.
      recipe: the file of a recorded recipe; None if it is not given.
      max_rows: maximum rows to compare on.
    """

    dataset: DatasetSettings
    model: ModelSettings
    keys: KeySettings
    output: str
    label: Label | None = None
    metric: str = ""
    score: str = ""
    tolerance: str = _TOLERANCE
    slices: tuple[str, ...] = ()
    threshold: float | None = None
    recipes: tuple[tuple[str, ...], ...] = ()
    recipe: str | None = None
    max_rows: int = 0


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    dataset_flags.add_flags(parser)
    parser.group(WHAT).add_argument(
        "--keys", metavar="C,…", help="columns that identify a row, which tell worst rows apart"
    )
    model_flags.add_flags(parser, may_start_process=False)
    good = parser.group("what is as good")
    good.add_argument(
        "--label",
        metavar="C[>=N]",
        help="column of what happened: 0 and 1, true and false, or a number; with >=N, whether it "
        "is at least N. Rows with a null do not count. Without a label, scores must agree with "
        "those of the model",
    )
    good.add_argument(
        "--metric",
        metavar="NAME",
        default="",
        help=f"one of {', '.join(METRICS)} (default: auc for two labels, rmse for numbers, "
        "agreement without labels)",
    )
    good.add_argument(
        "--score",
        metavar="T",
        default="",
        help="the output that is measured, if the model has several",
    )
    good.add_argument(
        "--tolerance",
        metavar="N",
        default=_TOLERANCE,
        help="how much worse the metric may be at most; mlperf-99 or mlperf-99.9 for that share of "
        f"the model's metric (default: {_TOLERANCE})",
    )
    good.add_argument(
        "--slices",
        metavar="C,…",
        help="columns whose values are compared one by one, if they have at least 1,000 rows",
    )
    good.add_argument(
        "--threshold",
        metavar="N",
        help="score from which on a decision is positive: the report counts decisions that change",
    )
    good.add_argument(
        "--max_rows",
        metavar="N",
        default=_DEFAULT_ROWS,
        help=f"maximum rows to compare on, spread over the partitions (default: {_DEFAULT_ROWS})",
    )
    how = parser.group(HOW)
    how.add_argument(
        "--passes",
        metavar="P[+P…],…",
        help=f"passes of each variant, for example {LITERT},{LITERT}+{INT8} (default: all that "
        f"fit); one of {', '.join(PASSES)}",
    )
    how.add_argument(
        "--recipe",
        metavar="FILE",
        help="instead of --passes: the passes of an earlier variant, from the folder recipes of "
        "its optimization",
    )
    how.add_argument("--output", metavar="DIR", help="folder of the variants and the report")


def read_optimize(given: argparse.Namespace, problems: Problems) -> OptimizeSettings:
    """Return the settings, and add all problems."""
    read = OptionReader(problems, _NEEDED)
    metric = read.choice("--metric", given.metric, METRICS) if given.metric else ""
    label = _read_label(given.label, problems)
    slices = read.names("--slices", given.slices or "")
    if label is None and metric not in ("", "agreement"):
        problems.add(f"--metric {metric} needs --label; leave it out, or set both")
    if label is not None and metric == "agreement":
        problems.add("--metric agreement needs no --label: leave it out, or take another metric")
    kept = tuple(dict.fromkeys((*((label.column,) if label else ()), *slices)))
    if given.passes and given.recipe:
        problems.add_usage("--recipe takes the place of --passes; leave out one of them")
    keys = read.names("--keys", read.required("--keys", given.keys))
    return OptimizeSettings(
        dataset=read_dataset(given, read),
        model=read_model(given, read),
        keys=KeySettings(keys=keys, keep=tuple(c for c in kept if c not in keys)),
        output=read.local("--output", read.required("--output", given.output)),
        label=label,
        metric=metric,
        score=given.score,
        tolerance=given.tolerance,
        slices=slices,
        threshold=_read_number("--threshold", given.threshold, problems),
        recipes=_read_recipes(read.names("--passes", given.passes or ""), problems),
        recipe=read.file("--recipe", given.recipe),
        max_rows=read.positive("--max_rows", given.max_rows),
    )


def _read_recipes(texts: tuple[str, ...], problems: Problems) -> tuple[tuple[str, ...], ...]:
    """Return the passes of each variant, and add all problems."""
    recipes = tuple(dict.fromkeys(tuple(text.split("+")) for text in texts if text))
    for recipe in recipes:
        unknown = [name for name in recipe if name not in PASSES]
        order = [PASSES.index(name) for name in recipe if name in PASSES]
        if unknown:
            problems.add(f"--passes: expected {', '.join(PASSES)}, got '{unknown[0]}'")
        elif order != sorted(set(order)):
            problems.add(
                f"--passes: expected each pass once, in the order {', '.join(PASSES)}, got "
                f"{'+'.join(recipe)}"
            )
        elif INT8 in recipe and LITERT not in recipe:
            problems.add(f"--passes: {INT8} needs {LITERT}: write {LITERT}+{INT8}")
    return recipes


def _read_label(text: str | None, problems: Problems) -> Label | None:
    if not text:
        return None
    column, is_compared, bound = text.partition(">=")
    column = column.strip()
    if not is_compared:
        return Label(column=column)
    return Label(column=column, at_least=_read_number("--label", bound, problems))


def _read_number(flag: str, text: str | None, problems: Problems) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        problems.add(f"{flag}: expected a number, got '{text}'")
        return None
    return value
