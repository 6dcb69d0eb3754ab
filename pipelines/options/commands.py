"""The commands and their flags: each takes those that it honours, and no other."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from scoreline.pipelines.options import batch, inspect, replay, stream
from scoreline.pipelines.options.command_parser import CommandParser
from scoreline.pipelines.options.problems import Problems


class Command(NamedTuple):
    """A command: how it is called, and what declares its flags."""

    usage: str
    add_flags: Callable[[CommandParser], None]


COMMANDS: Mapping[str, Command] = {
    "batch": Command(batch.USAGE, batch.add_flags),
    "stream": Command(stream.USAGE, stream.add_flags),
    "replay": Command(replay.USAGE, replay.add_flags),
    "inspect": Command(inspect.USAGE, inspect.add_flags),
}


def make_parser(name: str, doc: str | None = None) -> CommandParser:
    """Return the parser of a command, described by the part of a docstring before its example."""
    command = COMMANDS[name]
    parser = CommandParser(command.usage, doc)
    command.add_flags(parser)
    return parser


class Parsed(NamedTuple):
    """The values of a command's flags, and the arguments that are none of them."""

    given: argparse.Namespace
    others: list[str]


def parse_flags(
    name: str, argv: Sequence[str], problems: Problems, parser: CommandParser | None = None
) -> Parsed:
    """Parse the flags of a command; flags of another command are problems.

    Whether the arguments that are left mean anything is the caller's to say: Beam has flags too.
    """
    parser = parser or make_parser(name)
    given, others = parser.parse_known_args(list(argv))
    left = []
    for argument in others:
        flag = argument.partition("=")[0]
        owners = _owners(flag) if flag.startswith("--") else []
        if owners:
            problems.add_usage(
                f"{name} does not take {flag}; it is a flag of {' and '.join(owners)}"
            )
        else:
            left.append(argument)
    return Parsed(given, left)


def refuse_unknown(others: Sequence[str], problems: Problems) -> None:
    """Add a problem for each argument that no one knows.

    It names flags only: their values, and what follows them, may be secrets.
    """
    after_flag = False
    for argument in others:
        if argument.startswith("-"):
            problems.add_usage(f"unknown option {argument.partition('=')[0]}")
        elif not after_flag:
            problems.add_usage(f"expected flags only, got '{argument}'")
        after_flag = argument.startswith("-") and "=" not in argument


def _owners(flag: str) -> list[str]:
    """Return the commands that take a flag."""
    return [name for name in COMMANDS if flag in make_parser(name).flags]
