"""The flags of runners. pipelines/runners interprets the name of a runner."""

from __future__ import annotations

import argparse

MODEL_SHARING = ("machine", "process")


def add_runner_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of every runner, in groups."""
    group = parser.add_argument_group("where it runs")
    group.add_argument(
        "--runner",
        metavar="NAME",
        help="FnApiRunner (default): in this process; PrismRunner; flink; or another runner of "
        "Beam. Every option of Beam is accepted too",
    )
    add_flink_flags(parser.add_argument_group("on Flink (--runner=flink --flink_master=H:P)"))


def add_flink_flags(group: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Declare our flags that only Flink needs."""
    group.add_argument(
        "--model_sharing",
        choices=MODEL_SHARING,
        default=MODEL_SHARING[0],
        help="machine: one model per TaskManager, shared by its slots (default). process: one "
        "worker process and one model per slot",
    )
    group.add_argument(
        "--submit_timeout_s",
        metavar="S",
        default="300",
        help="maximum seconds from the submission to the first output of a step; then the job is "
        "cancelled (default: 300)",
    )
