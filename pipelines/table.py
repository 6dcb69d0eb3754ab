"""Maintains a table of scores: status, verify, history, rollback and vacuum.

    scoreline table status   --output PATH [--input PATH]
    scoreline table verify   --output PATH [--partitions SPEC]
    scoreline table history  --output PATH [--limit N]
    scoreline table rollback --output PATH --version N [--partitions SPEC]
    scoreline table vacuum   --output PATH [--keep_hours N] [--apply]

Exit codes: 0 success; 1 verify found problems, a rollback failed, or the store did not answer; 2
options or the table are wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from scoreline.pipelines.doing import doing
from scoreline.pipelines.exit_codes import EXIT_WRONG
from scoreline.pipelines.options.commands import join_names, owners_of
from scoreline.pipelines.options.parser import OptionParser, add_json, suggest
from scoreline.pipelines.options.problems import BadOptions
from scoreline.pipelines.report.reporter import Reporter
from scoreline.pipelines.report.unexpected import end_unexpected

_ACTIONS = ("status", "verify", "history", "rollback", "vacuum")
_DEFAULT_COMMITS = 20
_DEFAULT_KEEP_HOURS = 168
_MIN_KEEP_HOURS = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    flags = sys.argv[1:] if argv is None else list(argv)
    action = flags[0] if flags and flags[0] in _ACTIONS else ""
    kind = f"table_{action}" if action else "error"
    reporter = Reporter(kind, as_json="--json" in flags)
    try:
        args = _parse(flags)
        _check(args)
    except BadOptions as e:
        return reporter.end(EXIT_WRONG, problems=e.problems)
    try:
        from scoreline.pipelines.table_actions import run

        with doing(f"running table {action} on {args.output}"):
            return run(args, reporter)
    except Exception as e:  # noqa: BLE001  the last resort of the command
        return end_unexpected(reporter, e)


def _parse(flags: Sequence[str]) -> argparse.Namespace:
    """Return the values of flags.

    Raises:
      BadOptions: the command line is wrong; lists all unknown flags and those of other commands.
    """
    parser, actions = _make_parsers()
    given, rest = parser.parse_known_args(flags)
    if rest:
        raise BadOptions(_refuse(rest, given.action, actions))
    return given


def _refuse(rest: Sequence[str], action: str, actions: Mapping[str, OptionParser]) -> list[str]:
    """Return a problem per unknown argument, without its value, which may be secret."""
    unknown = [flag.partition("=")[0] for flag in rest if flag.startswith("-")]
    if not unknown:
        return [f"table {action}: expected flags only, got {len(rest)} more words"]
    known = {name: parser._option_string_actions for name, parser in actions.items()}
    problems = []
    for flag in unknown:
        owners = [f"table {name}" for name in actions if flag in known[name]] + owners_of(flag)
        problems.append(
            f"table {action} does not take {flag}; it is a flag of {join_names(owners)}"
            if owners
            else f"unknown option {flag}{suggest(flag, known[action])}"
        )
    return problems


def _make_parsers() -> tuple[OptionParser, Mapping[str, OptionParser]]:
    """Return the parser of the command, and that of each action by its name."""
    parser = OptionParser(prog="scoreline table", description=(__doc__ or "").partition("\n")[0])
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="COMMAND", parser_class=OptionParser
    )
    status = _add(actions, "status", "show which partitions are committed, stale, missing …")
    status.add_argument("--input", metavar="PATH", help="dataset to compare the table with")
    _add(actions, "verify", "compare data files with their names, the log and the metadata")
    history = _add(actions, "history", "show the transactions, newest first")
    history.add_argument(
        "--limit",
        type=int,
        default=_DEFAULT_COMMITS,
        metavar="N",
        help=f"maximum number of transactions (default: {_DEFAULT_COMMITS})",
    )
    rollback = _add(actions, "rollback", "restore an earlier version")
    rollback.add_argument(
        "--version", type=int, required=True, metavar="N", help="version of the table"
    )
    vacuum = _add(actions, "vacuum", "list unreferenced files, and remove them with --apply")
    vacuum.add_argument("--apply", action="store_true", help="remove it")
    vacuum.add_argument(
        "--keep_hours",
        type=int,
        default=_DEFAULT_KEEP_HOURS,
        metavar="N",
        help="grace period; must be longer than any job or reader "
        f"(default: {_DEFAULT_KEEP_HOURS})",
    )
    return parser, actions.choices


def _add(actions: Any, name: str, purpose: str) -> OptionParser:
    parser: OptionParser = actions.add_parser(name, help=purpose, description=purpose)
    parser.add_argument("--output", required=True, metavar="PATH", help="the table")
    if name != "vacuum":
        parser.add_argument(
            "--partitions",
            metavar="SPEC",
            action="append",
            help="as in `scoreline batch`; repeatable (default: all)",
        )
    add_json(parser)
    return parser


def _check(args: argparse.Namespace) -> None:
    """Check the values of flags.

    Raises:
      BadOptions: one is out of range.
    """
    problems = []
    if args.action == "vacuum" and args.keep_hours < _MIN_KEEP_HOURS:
        problems.append(
            f"--keep_hours: expected at least {_MIN_KEEP_HOURS}, got {args.keep_hours}: "
            "vacuum would remove files of readers and running jobs"
        )
    if args.action == "history" and args.limit < 1:
        problems.append(f"--limit: expected at least 1, got {args.limit}")
    if problems:
        raise BadOptions(problems)
