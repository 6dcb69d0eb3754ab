"""The commands and their flags. A command accepts only flags that it honours."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from scoreline.pipelines.options import batch, inspect, load_test, optimize, replay, stream
from scoreline.pipelines.options.command_parser import CommandParser
from scoreline.pipelines.options.parser import add_json, suggest
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.runner import add_runner_flags


class Command(NamedTuple):
    """A command and its flags.

    Attributes:
      module: its module in pipelines/, imported after the check of flags.
      usage: its usage line.
      description: its purpose and its exit codes.
      add_flags: declares its flags.
      read: returns its checked settings.
      takes_beam: whether it also accepts the flags of runners and of Beam.
      supervisor: the module that runs instead with --restart, if the command has this flag.
    """

    module: str
    usage: str
    description: str
    add_flags: Callable[[CommandParser], None]
    read: Callable[[argparse.Namespace, Problems], object]
    takes_beam: bool = False
    supervisor: str = ""


COMMANDS: Mapping[str, Command] = {
    "batch": Command(
        "score_batch",
        batch.USAGE,
        batch.DESCRIPTION,
        batch.add_flags,
        batch.read_batch,
        takes_beam=True,
    ),
    "stream": Command(
        "score_stream",
        stream.USAGE,
        stream.DESCRIPTION,
        stream.add_flags,
        stream.read_stream,
        takes_beam=True,
        supervisor="restart_stream",
    ),
    "replay": Command(
        "replay", replay.USAGE, replay.DESCRIPTION, replay.add_flags, replay.read_replay
    ),
    "inspect": Command(
        "inspect_model",
        inspect.USAGE,
        inspect.DESCRIPTION,
        inspect.add_flags,
        inspect.read_inspect,
    ),
    "load-test": Command(
        "load_test.command",
        load_test.USAGE,
        load_test.DESCRIPTION,
        load_test.add_flags,
        load_test.read_load_test,
    ),
    "optimize": Command(
        "optimize.command",
        optimize.USAGE,
        optimize.DESCRIPTION,
        optimize.add_flags,
        optimize.read_optimize,
    ),
}


def make_parser(name: str, *, whole: bool = False) -> CommandParser:
    """Return the parser of a command.

    Args:
      name: name of the command.
      whole: whether to include the flags of runners, which are parsed with those of Beam.
    """
    command = COMMANDS[name]
    parser = CommandParser(command.usage, command.description)
    command.add_flags(parser)
    add_json(parser)
    if whole and command.takes_beam:
        add_runner_flags(parser)
    return parser


class Parsed(NamedTuple):
    """The values of a command's flags, and all other arguments."""

    given: argparse.Namespace
    others: list[str]


def parse_flags(name: str, argv: Sequence[str], problems: Problems) -> Parsed:
    """Parse the flags of a command; with `--help`, print them and exit.

    Flags of another command are problems. Unknown arguments are problems too, unless the command
    accepts flags of Beam. Then they are returned, and Beam checks them.

    Raises:
      BadOptions: a flag lacks its value.
    """
    if {"-h", "--help"} & set(argv):
        make_parser(name, whole=True).parse_args(["--help"])
    given, others = make_parser(name).parse_known_args(list(argv))
    others = _refuse_foreign(name, others, problems)
    if not COMMANDS[name].takes_beam:
        refuse_unknown(others, problems, make_parser(name).flags)
        others = []
    return Parsed(given, others)


def _refuse_foreign(name: str, others: Sequence[str], problems: Problems) -> list[str]:
    """Add a problem for each flag of another command, and return all other arguments."""
    left = []
    is_value = False
    for argument in others:
        if is_value and not argument.startswith("-"):
            continue
        flag = argument.partition("=")[0]
        owners = owners_of(flag)
        is_value = bool(owners) and "=" not in argument
        if owners:
            problems.add_usage(f"{name} does not take {flag}; it is a flag of {join_names(owners)}")
        else:
            left.append(argument)
    return left


def owners_of(flag: str) -> list[str]:
    """Return the commands that take a flag."""
    return [name for name in COMMANDS if flag in make_parser(name).flags]


def join_names(names: Sequence[str]) -> str:
    """Return names in the form `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def refuse_unknown(others: Sequence[str], problems: Problems, known: Collection[str] = ()) -> None:
    """Add a problem for each unknown argument.

    Problems name only flags, because their values and later arguments may be secrets.

    Args:
      others: the arguments.
      problems: the list to which problems are added.
      known: flags to suggest for misspelled ones.
    """
    after_flag = False
    for argument in others:
        if argument.startswith("-"):
            flag = argument.partition("=")[0]
            problems.add_usage(f"unknown option {flag}{suggest(flag, known)}")
        elif not after_flag:
            problems.add_usage(f"expected flags only, got '{argument}'")
        after_flag = argument.startswith("-") and "=" not in argument
