"""Flags of the run itself."""

from __future__ import annotations

import os

from scoreline.pipelines.options.command_parser import HOW, CommandParser


def add_worker_flag(parser: CommandParser) -> None:
    """Declare `--workers`."""
    parser.group(HOW).add_argument(
        "--workers",
        metavar="N",
        help="parallel workers of the local runners (default: one per processor)",
    )


def add_check_flag(parser: CommandParser, meaning: str) -> None:
    """Declare `--check`."""
    parser.group(HOW).add_argument("--check", action="store_true", help=meaning)


def available_cpus() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
