"""Look after a table of scores: what it holds, whether it is right, what it was, what can go.

    scoreline table status   --output PATH [--input PATH]
    scoreline table verify   --output PATH [--partitions SPEC]
    scoreline table history  --output PATH [--limit N]
    scoreline table rollback --output PATH --version N [--partitions SPEC]
    scoreline table vacuum   --output PATH [--keep_hours N] [--apply]

Exit codes: 0 all is well; 1 verify found something wrong, a rollback could not be made, or the
store did not answer; 2 options or the table are wrong.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scoreline.lake.files.partitions import PartitionSpec, parse_partition_path
from scoreline.lake.storage import may_pass
from scoreline.lake.table.history import LivePartition, read_commits, read_live_partitions
from scoreline.lake.table.rollback import RollbackError, rollback_partition, rollback_table
from scoreline.lake.table.scores import open_table
from scoreline.lake.table.vacuum import vacuum_table
from scoreline.lake.table.verify import verify_partitions
from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_WRONG
from scoreline.pipelines.options.problems import BadOptions
from scoreline.pipelines.options.reader import find_secret
from scoreline.pipelines.report.console import say
from scoreline.pipelines.report.status import PartitionStatus, read_status

_DEFAULT_KEEP_HOURS = 168
_MIN_KEEP_HOURS = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = _parse_args(argv)
    console, errors = Console(), Console(stderr=True)
    try:
        specs = [PartitionSpec(text) for text in args.partitions or ()]
        return int(args.run(args, _open(args.output), specs, console))
    except BadOptions as e:
        for problem in e.problems:
            say(errors, problem)
        return EXIT_WRONG
    except RollbackError as e:
        say(errors, f"Not rolled back: {e}")
        return EXIT_FAILED
    except (ValueError, OSError, DeltaError) as e:
        say(errors, str(e))
        return EXIT_FAILED if may_pass(e) else EXIT_WRONG


def _open(output: str) -> DeltaTable:
    problem = find_secret("--output", output)
    if problem:
        raise BadOptions([problem])
    table = open_table(output)
    if table is None:
        raise BadOptions([f"--output: expected a table of scores, got nothing at {output}"])
    return table


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    status = _add(commands, "status", _status, "which partitions are committed, stale, missing …")
    status.add_argument("--input", metavar="PATH", help="dataset to hold the table against")
    status.add_argument("--json", action="store_true", help="print JSON, for machines")
    _add(commands, "verify", _verify, "hold data files against names, log and metadata")
    history = _add(commands, "history", _history, "the transactions, newest first")
    history.add_argument("--limit", type=int, default=20, metavar="N", help="default: 20")
    rollback = _add(commands, "rollback", _rollback, "bring an earlier version back")
    rollback.add_argument("--version", type=int, required=True, metavar="N")
    vacuum = _add(commands, "vacuum", _vacuum, "remove what nobody needs; says only what, unless …")
    vacuum.add_argument("--apply", action="store_true", help="remove it")
    vacuum.add_argument(
        "--keep_hours",
        type=int,
        default=_DEFAULT_KEEP_HOURS,
        metavar="N",
        help="grace period; longer than any job and any reader runs (default: 168)",
    )
    return parser.parse_args(argv)


def _add(commands: Any, name: str, run: Any, help_text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=help_text, allow_abbrev=False
    )
    parser.add_argument("--output", required=True, metavar="PATH", help="the table")
    parser.add_argument(
        "--partitions", metavar="SPEC", action="append", help="as in score_batch; default: all"
    )
    parser.set_defaults(run=run)
    return parser


def _select(
    partitions: Sequence[LivePartition], specs: Sequence[PartitionSpec]
) -> list[LivePartition]:
    """Return the partitions that are meant.

    Raises:
      BadOptions: a specification matches none.
    """
    values = {live.partition: parse_partition_path(live.partition) for live in partitions}
    unmatched = [s.text for s in specs if not any(s.matches(v) for v in values.values())]
    if unmatched:
        raise BadOptions([f"--partitions {text}: the table holds no such" for text in unmatched])
    return [
        live
        for live in partitions
        if not specs or any(spec.matches(values[live.partition]) for spec in specs)
    ]


def _status(
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec], console: Console
) -> int:
    found = read_status(args.output, table, args.input, specs)
    if args.json:
        rows = json.dumps([status._asdict() for status in found], indent=1)
        say(console, rows)
    else:
        console.print(_status_table(found), highlight=False)
    return EXIT_OK


def _status_table(found: Sequence[PartitionStatus]) -> Table:
    shown = _table("partition", "state", "rows", "dead", "model", "version", "committed", "")
    for status in found:
        shown.add_row(
            escape(status.partition),
            status.state,
            _number(status.rows_scored),
            _number(status.rows_dead),
            status.model_digest.removeprefix("sha256:")[:12],
            _number(status.version),
            _time(status.committed_ms),
            escape(status.note),
        )
    return shown


def _verify(
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec], console: Console
) -> int:
    partitions = _select(read_live_partitions(table), specs)
    wrong = 0
    for partition, problems in verify_partitions(args.output, table, partitions):
        wrong += bool(problems)
        for problem in problems:
            say(console, f"{partition}: {problem}")
    rows = sum(live.rows for live in partitions)
    files = sum(len(live.files) for live in partitions)
    verdict = f"{wrong} of {len(partitions)} partitions are wrong" if wrong else "all is right"
    say(
        console,
        f"version {table.version()}: {len(partitions)} partitions, {files} files, {rows:,} rows: "
        f"{verdict}",
    )
    return EXIT_FAILED if wrong else EXIT_OK


def _history(
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec], console: Console
) -> int:
    shown = _table("version", "time", "what", "partition", "rows", "dead", "model", "run")
    count = 0
    for commit in read_commits(table):
        partition = commit.get("partition", "")
        if specs and not (
            partition and any(s.matches(parse_partition_path(partition)) for s in specs)
        ):
            continue
        back = commit.get("rolled_back_to")
        shown.add_row(
            str(commit["version"]),
            _time(commit["timestamp"]),
            f"rollback to {back}" if back else str(commit.get("operation", "")).lower(),
            escape(partition),
            commit.get("rows_scored", ""),
            commit.get("rows_dead", ""),
            commit.get("model_digest", "").removeprefix("sha256:")[:12],
            commit.get("run_id", ""),
        )
        count += 1
        if count == args.limit:
            break
    console.print(shown, highlight=False)
    return EXIT_OK


def _rollback(
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec], console: Console
) -> int:
    before = table.version()
    if not specs:
        version = rollback_table(args.output, args.version)
        say(console, f"The table is what it was at version {args.version}; now version {version}.")
    else:
        then = _select_at(args, table, specs)
        for partition in then:
            version = rollback_partition(args.output, partition, args.version)
            say(console, f"{partition} is what it was at version {args.version}; now {version}.")
    say(
        console,
        f"To undo: scoreline table rollback --output … --version {before}",
    )
    return EXIT_OK


def _select_at(
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec]
) -> list[str]:
    """Return the partitions meant, that the table holds now or held at the version."""
    held = read_live_partitions(table)
    known = {live.partition for live in held}
    then = DeltaTable(table.table_uri, version=args.version) if args.version >= 0 else table
    both = [*held, *(p for p in read_live_partitions(then) if p.partition not in known)]
    return [live.partition for live in _select(both, specs)]


def _vacuum(
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec], console: Console
) -> int:
    if specs:
        raise BadOptions(["--partitions: vacuum cleans the whole table"])
    if args.keep_hours < _MIN_KEEP_HOURS:
        raise BadOptions(
            [
                f"--keep_hours: expected at least {_MIN_KEEP_HOURS}, got {args.keep_hours}: "
                "files of readers and running jobs would go"
            ]
        )
    removed = vacuum_table(args.output, args.keep_hours, dry_run=not args.apply)
    for path in [*removed.data_files, *removed.leftovers]:
        say(console, path)
    what = "removed" if args.apply else "would be removed; --apply does it"
    say(
        console,
        f"{len(removed.data_files)} data files and {len(removed.leftovers)} leftovers older than "
        f"{args.keep_hours} hours {what}",
    )
    return EXIT_OK


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _time(milliseconds: int | None) -> str:
    if not milliseconds:
        return ""
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M UTC")


if __name__ == "__main__":
    sys.exit(main())
