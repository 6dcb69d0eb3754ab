"""The commands and their flags: each takes those that it honours, and no other."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from scoreline.pipelines.options import batch, inspect, replay, stream
from scoreline.pipelines.options.command_parser import CommandParser
from scoreline.pipelines.options.parser import add_json, suggest
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.runner import add_runner_flags


class Command(NamedTuple):
    """A command and its flags.

    Attributes:
      module: in pipelines/, which does the work; it is imported after the flags are checked.
      usage: how it is called.
      description: what it does, and its exit codes.
      add_flags: declares its flags.
      read: returns its checked settings.
      takes_beam: whether it also takes the flags of runners and of Beam.
    """

    module: str
    usage: str
    description: str
    add_flags: Callable[[CommandParser], None]
    read: Callable[[argparse.Namespace, Problems], object]
    takes_beam: bool = False


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
}


def make_parser(name: str, *, whole: bool = False) -> CommandParser:
    """Return the parser of a command.

    Args:
      name: of the command.
      whole: whether it has the flags about runners too, which are parsed with those of Beam.
    """
    command = COMMANDS[name]
    parser = CommandParser(command.usage, command.description)
    command.add_flags(parser)
    add_json(parser)
    if whole and command.takes_beam:
        add_runner_flags(parser)
    return parser


class Parsed(NamedTuple):
    """The values of a command's flags, and the arguments that are none of them."""

    given: argparse.Namespace
    others: list[str]


def parse_flags(name: str, argv: Sequence[str], problems: Problems) -> Parsed:
    """Parse the flags of a command; with `--help`, print them and exit.

    Flags of another command are problems. So are arguments that nobody knows, unless the command
    takes those of Beam: then Beam is to be asked, and they are returned.

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
    """Return the arguments that are no flags of another command, which are problems."""
    left = []
    is_value = False
    for argument in others:
        if is_value and not argument.startswith("-"):
            continue
        flag = argument.partition("=")[0]
        owners = [other for other in COMMANDS if flag in make_parser(other).flags]
        is_value = bool(owners) and "=" not in argument
        if owners:
            problems.add_usage(f"{name} does not take {flag}; it is a flag of {_list(owners)}")
        else:
            left.append(argument)
    return left


def _list(names: Sequence[str]) -> str:
    """Return names as a sentence has them: `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def refuse_unknown(others: Sequence[str], problems: Problems, known: Collection[str] = ()) -> None:
    """Add a problem for each argument that no one knows.

    It names flags only: their values, and what follows them, may be secrets.

    Args:
      others: the arguments.
      problems: gets a sentence for each.
      known: flags of which one may be meant.
    """
    after_flag = False
    for argument in others:
        if argument.startswith("-"):
            flag = argument.partition("=")[0]
            problems.add_usage(f"unknown option {flag}{suggest(flag, known)}")
        elif not after_flag:
            problems.add_usage(f"expected flags only, got '{argument}'")
        after_flag = argument.startswith("-") and "=" not in argument
