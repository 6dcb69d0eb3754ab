"""Flags of model swaps while a stream runs."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.pipelines.options.command_parser import CommandParser
from scoreline.pipelines.options.reader import OptionReader

_MAX_DISAGREEMENT, _MAX_LATENCY_RATIO = 0.2, 2.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SwapSettings:
    """Checked settings of model swaps; fields have the names of the options."""

    watch_model_s: float
    max_disagreement: float = _MAX_DISAGREEMENT
    max_latency_ratio: float = _MAX_LATENCY_RATIO


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    swap = parser.group("new model versions while it runs")
    swap.add_argument(
        "--watch_model_s",
        metavar="S",
        help="look every S seconds for a new version in the directory --model, which then "
        "holds numbered versions 1, 2.keras, 3.tflite, …; the highest one serves, or the one "
        "named in a file SERVING. Scoring continues meanwhile",
    )
    swap.add_argument(
        "--swap_max_disagreement",
        metavar="D",
        help="refuse a new version whose scores of a sample differ by more: for floats the mean "
        "absolute difference in standard deviations of the old scores, otherwise the share of "
        f"rows that differ (default: {_MAX_DISAGREEMENT}). Not checked for a version in "
        "SERVING, like the next flag",
    )
    swap.add_argument(
        "--swap_max_latency_ratio",
        metavar="R",
        help="refuse a new version that takes more than R times as long for the sample "
        f"(default: {_MAX_LATENCY_RATIO})",
    )


def read_swap(given: argparse.Namespace, read: OptionReader) -> SwapSettings | None:
    """Return the settings, and add all problems; None without `--watch_model_s`."""
    seconds = read.seconds("--watch_model_s", given.watch_model_s)
    disagreement = read.bound(
        "--swap_max_disagreement", given.swap_max_disagreement, _MAX_DISAGREEMENT
    )
    ratio = read.bound("--swap_max_latency_ratio", given.swap_max_latency_ratio, _MAX_LATENCY_RATIO)
    if seconds is not None:
        return SwapSettings(
            watch_model_s=seconds, max_disagreement=disagreement, max_latency_ratio=ratio
        )
    for name in ("swap_max_disagreement", "swap_max_latency_ratio"):
        if given.watch_model_s is None and getattr(given, name) is not None:
            read.problems.add(f"--{name} needs --watch_model_s; leave it out, or set both")
    return None
