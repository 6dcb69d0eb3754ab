"""The command line of the command that a load test runs, from a profile or from arguments."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from scoreline.models.names import quote_name
from scoreline.pipelines.load_test.fields import Field, FieldReader, is_list, is_mapping
from scoreline.pipelines.options.beam_flags import beam_flags
from scoreline.pipelines.options.commands import COMMANDS, make_parser, parse_flags
from scoreline.pipelines.options.parser import suggest
from scoreline.pipelines.options.problems import BadOptions, Problems

MODES = ("stream", "batch")

_TOPICS = "the load test creates its own topics, and removes them"
_START = "the load test decides where each window begins and ends"
_TABLES = "the load test creates its own tables, and removes them"
_ENDS = "the load test starts and ends the pipeline"
_OBJECT = "use --json of load-test"
# Flags that the load test sets itself, and why.
SET_BY_TEST: Mapping[str, Mapping[str, str]] = {
    "stream": {
        "topic": _TOPICS,
        "output_topic": _TOPICS,
        "dead_letter_topic": _TOPICS,
        "group": _TOPICS,
        "output": "the load test reads the scores of its own topic",
        "flush_interval_s": "it is for --output, which the load test does not use",
        "start": _START,
        "start_time": _START,
        "until_end": _START,
        "readers": "set workers of the profile",
        "heartbeat_file": _ENDS,
        "restart": _ENDS,
        "check": _ENDS,
        "watch_model_s": "a model that changes in the middle of a test makes its numbers useless",
        "json": _OBJECT,
    },
    "batch": {
        "output": _TABLES,
        "reprocess": _TABLES,
        "workers": "set workers of the profile",
        "check": _ENDS,
        "json": _OBJECT,
    },
}
# Stands for what the load test sets, when the other flags are checked.
_PLACEHOLDERS = {
    "stream": ["--topic=in", "--output_topic=out", "--dead_letter_topic=dead", "--group=group"],
    "batch": ["--output=table"],
}


def read_section(reader: FieldReader, mode: str, field: Field) -> tuple[str, ...]:
    """Return the argv of a command from its section of a profile, and add all problems."""
    actions = _actions_of(mode)
    argv: list[str] = []
    refused = len(reader.problems)
    for key, value in reader.section(field, mode).items():
        reason = SET_BY_TEST[mode].get(key)
        action = actions.get(key)
        if reason:
            reader.problems.add(f"{value.name}: the load test sets it; leave it out: {reason}")
        elif action is None and f"--{key}" not in beam_flags():
            near = suggest(f"--{key}", [f"--{name}" for name in actions]).replace("--", "")
            reader.problems.add(f"{value.name}: `scoreline {mode}` has no flag --{key}{near}")
        else:
            argv += _arguments(reader, key, value, action)
    if len(reader.problems) == refused:
        check(mode, argv, reader.problems, f"{reader.file}: {mode}: ")
    return tuple(argv)


def read_arguments(mode: str, argv: Sequence[str], problems: Problems) -> tuple[str, ...]:
    """Return the arguments behind `stream` or `batch`, and add all problems."""
    refused = len(problems)
    for argument in argv:
        flag = argument.partition("=")[0]
        reason = SET_BY_TEST[mode].get(flag.removeprefix("--")) if flag[:2] == "--" else None
        if reason:
            problems.add(f"{flag}: the load test sets it; leave it out: {reason}")
    if len(problems) == refused:
        check(mode, argv, problems)
    return tuple(argv)


def check(mode: str, argv: Sequence[str], problems: Problems, prefix: str = "") -> None:
    """Add what `scoreline stream` or `batch` would refuse; data and brokers are not looked at."""
    found = Problems()
    try:
        given, others = parse_flags(mode, [*argv, *_PLACEHOLDERS[mode]], found)
        COMMANDS[mode].read(given, found)
        known = beam_flags() | make_parser(mode, whole=True).flags
        for argument in others:
            flag = argument.partition("=")[0]
            if flag.startswith("--") and flag not in known and beam_flags():
                found.add(f"unknown option {flag}{suggest(flag, known)}")
    except BadOptions as e:
        found.add_all(e.problems)
    problems.add_all(f"{prefix}{sentence}" for sentence in found)


def settings_of(mode: str, argv: Sequence[str]) -> Any:
    """Return the settings of a checked command line; topics and tables have other names."""
    problems = Problems()
    given, _ = parse_flags(mode, [*argv, *_PLACEHOLDERS[mode]], problems)
    return COMMANDS[mode].read(given, problems)


def without_flags(argv: Sequence[str], flags: Sequence[str]) -> tuple[str, ...]:
    """Return a checked command line without some flags that take a value."""
    kept: list[str] = []
    is_value = False
    for argument in argv:
        flag, equals, _ = argument.partition("=")
        if flag in flags:
            is_value = not equals
        elif is_value:
            is_value = False
        else:
            kept.append(argument)
    return tuple(kept)


def runner_of(mode: str, argv: Sequence[str]) -> str:
    """Return the name of the runner of a checked command line."""
    _, others = parse_flags(mode, [*argv, *_PLACEHOLDERS[mode]], Problems())
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner", default="local")
    name: str = parser.parse_known_args(others)[0].runner
    return name.rpartition(".")[2].lower().removesuffix("runner")


def _actions_of(mode: str) -> dict[str, argparse.Action]:
    parser = make_parser(mode, whole=True)
    return {action.dest: action for action in parser._actions if action.dest != "help"}


def _arguments(
    reader: FieldReader, key: str, field: Field, action: argparse.Action | None
) -> list[str]:
    """Return the arguments of one key: a list or a mapping repeats its flag."""
    flag = f"--{key}"
    repeats = isinstance(action, argparse._AppendAction)
    if isinstance(action, argparse._StoreTrueAction):
        return [flag] if reader.flag(field) else []
    if is_mapping(field):
        if not repeats:
            reader.refuse(field, "one value")
            return []
        pairs = reader.section(field, f"{field.name.rpartition(': ')[2]}")
        texts = {name: reader.raw(value) for name, value in pairs.items()}
        return [
            f"{flag}={quote_name(name)}={text}" for name, text in texts.items() if text is not None
        ]
    if is_list(field):
        values = [reader.text(item) for item in reader.items(field, "at least one value") or ()]
        texts_of = [text for text in values if text is not None]
        if repeats or action is None:
            return [f"{flag}={text}" for text in texts_of]
        return [f"{flag}={','.join(map(quote_name, texts_of))}"] if texts_of else []
    text = reader.text(field, "a value")
    return [] if text is None else [f"{flag}={text}"]
