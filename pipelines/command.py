"""Runs a command: checks its flags first, then imports the code that does the work.

Beam, TensorFlow and Kafka's client take seconds to import. Help and a wrong command line need none
of them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
from collections.abc import Collection, Sequence

from scoreline.pipelines.doing import doing
from scoreline.pipelines.options.beam_flags import beam_flags
from scoreline.pipelines.options.commands import (
    COMMANDS,
    make_parser,
    parse_flags,
    refuse_unknown,
)
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.report.reporter import make_reporter
from scoreline.pipelines.report.unexpected import end_unexpected
from scoreline.transforms.worker.heap import importing
from scoreline.transforms.worker.lean_beam import import_beam


def run(name: str, argv: Sequence[str], *, own_process: bool = False) -> int:
    """Run a command of `COMMANDS`, and return its exit code.

    Args:
      name: the name of the command.
      argv: its arguments.
      own_process: whether the process is only for this command, which then imports a lean Beam.
    """
    try:
        with doing("reading the options"):
            given = check_flags(name, argv)
        command = COMMANDS[name]
        is_supervisor = bool(command.supervisor) and given.restart and not given.check
        with importing() if own_process else contextlib.nullcontext():
            if own_process and command.takes_beam and not is_supervisor:
                import_beam()
            module = command.supervisor if is_supervisor else command.module
            room = importlib.import_module(f"scoreline.pipelines.{module}")
        code: int = room.main(argv)
    except BadOptions as e:
        return make_reporter(name, argv).end(e.exit_code, problems=e.problems)
    except Exception as e:  # noqa: BLE001  the last resort of every command
        return end_unexpected(make_reporter(name, argv), e)
    return code


def check_flags(name: str, argv: Sequence[str]) -> argparse.Namespace:
    """Check for unknown and missing flags, without importing Beam; return their values.

    If a runner is named, its own flags are checked later.

    Raises:
      BadOptions: a flag is unknown, missing or invalid.
    """
    problems = Problems()
    given, others = parse_flags(name, argv, problems)
    COMMANDS[name].read(given, problems)
    of_beam = beam_flags()
    if of_beam and not any(flag.partition("=")[0] == "--runner" for flag in others):
        known = of_beam | make_parser(name, whole=True).flags
        refuse_unknown(_without(others, known), problems, known)
        problems.check_usage()
    return given


def _without(others: Sequence[str], known: Collection[str]) -> list[str]:
    """Return the arguments that are neither known flags nor their values."""
    left = []
    is_value = False
    for argument in others:
        flag, equals, _ = argument.partition("=")
        if flag in known:
            is_value = not equals
        elif not is_value or argument.startswith("--"):
            left.append(argument)
            is_value = False
    return left
