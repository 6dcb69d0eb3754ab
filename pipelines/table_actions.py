"""The actions of `scoreline table`, after the check of its options."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from rich.markup import escape

from scoreline.lake.files.partitions import PartitionSpec, parse_partition_path
from scoreline.lake.storage import may_pass
from scoreline.lake.table.history import LivePartition, read_live_partitions
from scoreline.lake.table.log import read_commits
from scoreline.lake.table.rollback import RollbackError, rollback_partition, rollback_table
from scoreline.lake.table.scores import open_table
from scoreline.lake.table.vacuum import vacuum_table
from scoreline.lake.table.verify import describe_foreign, verify_partitions
from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_WRONG
from scoreline.pipelines.options.problems import BadOptions
from scoreline.pipelines.options.reader import find_secret
from scoreline.pipelines.report.console import make_table
from scoreline.pipelines.report.reporter import Reporter
from scoreline.pipelines.report.status import read_status


def run(args: argparse.Namespace, reporter: Reporter) -> int:
    """Run the action and return the exit code."""
    actions = {
        "status": _status,
        "verify": _verify,
        "history": _history,
        "rollback": _rollback,
        "vacuum": _vacuum,
    }
    try:
        specs = [PartitionSpec(text) for text in getattr(args, "partitions", None) or ()]
        return actions[args.action](args, _open(args.output), specs, reporter)
    except BadOptions as e:
        return reporter.end(e.exit_code, problems=e.problems)
    except RollbackError as e:
        return reporter.end(EXIT_FAILED, problems=[f"Not rolled back: {e}"])
    except (ValueError, OSError, DeltaError) as e:
        return reporter.end(EXIT_FAILED if may_pass(e) else EXIT_WRONG, problems=[str(e)])


def _open(output: str) -> DeltaTable:
    problem = find_secret("--output", output)
    if problem:
        raise BadOptions([problem])
    table = open_table(output)
    if table is None:
        raise BadOptions([f"--output: expected a table of scores, got nothing at {output}"])
    return table


def _select(
    partitions: Sequence[LivePartition], specs: Sequence[PartitionSpec]
) -> list[LivePartition]:
    """Return the partitions that the specifications match.

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
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec], reporter: Reporter
) -> int:
    found = read_status(args.output, table, args.input, specs)
    shown = make_table("partition", "state", "rows", "dead", "model", "version", "committed", "")
    for status in found:
        shown.add_row(
            escape(status.partition),
            status.state,
            _number(status.rows_scored),
            _number(status.rows_dead),
            _short(status.model_digest),
            _number(status.version),
            _time(status.committed_ms),
            escape(status.note),
        )
    reporter.show(lambda console: console.print(shown, highlight=False))
    fields = {
        "table": args.output,
        "table_version": table.version(),
        "partitions": [status._asdict() for status in found],
    }
    return reporter.end(EXIT_OK, fields)


def _verify(
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec], reporter: Reporter
) -> int:
    partitions = _select(read_live_partitions(table), specs)
    wrong = {
        partition: problems
        for partition, problems in verify_partitions(args.output, table, partitions)
        if problems
    }
    sentences = [f"{partition}: {problem}" for partition in wrong for problem in wrong[partition]]
    unchecked = {live.partition: text for live in partitions if (text := describe_foreign(live))}
    remarks = [f"{partition}: {text}" for partition, text in unchecked.items()]
    rows = sum(live.rows for live in partitions)
    files = sum(len(live.files) for live in partitions)
    verdict = f"{len(wrong)} of {len(partitions)} partitions are wrong" if wrong else "all is right"
    if unchecked:
        are = "is" if len(unchecked) == 1 else "are"
        verdict = f"{verdict}, but {len(unchecked)} {are} written by another program, not checked"
    summary = (
        f"version {table.version()}: {len(partitions)} partitions, {files} files, {rows:,} rows: "
        f"{verdict}"
    )
    reporter.tell(*sentences, *remarks, summary)
    fields = {
        "table": args.output,
        "table_version": table.version(),
        "partitions": len(partitions),
        "files": files,
        "rows": rows,
        "wrong": sorted(wrong),
        "unchecked": sorted(unchecked),
        "remarks": remarks,
        "problems": sentences,  # shown above: here they are the result, not an error
    }
    return reporter.end(EXIT_FAILED if wrong else EXIT_OK, fields)


def _history(
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec], reporter: Reporter
) -> int:
    shown = make_table("version", "time", "what", "partition", "rows", "dead", "model", "run", "")
    commits = []
    for commit in read_commits(table):
        partition = commit.get("partition", "")
        if specs and not (
            partition and any(s.matches(parse_partition_path(partition)) for s in specs)
        ):
            continue
        commits.append(
            {
                "version": commit["version"],
                "timestamp_ms": commit["timestamp"],
                "operation": str(commit.get("operation", "")).lower(),
                "rolled_back_to": _as_number(commit.get("rolled_back_to")),
                "partition": partition,
                "rows_scored": _as_number(commit.get("rows_scored")),
                "rows_dead": _as_number(commit.get("rows_dead")),
                "model_digest": commit.get("model_digest", ""),
                "run_id": commit.get("run_id", ""),
                "allow_impure": commit.get("allow_impure", ""),
            }
        )
        if len(commits) == args.limit:
            break
    for made in commits:
        back = made["rolled_back_to"]
        shown.add_row(
            str(made["version"]),
            _time(made["timestamp_ms"]),
            made["operation"] if back is None else f"rollback to {back}",
            escape(made["partition"]),
            _number(made["rows_scored"]),
            _number(made["rows_dead"]),
            _short(made["model_digest"]),
            made["run_id"],
            escape(f"impure model: {made['allow_impure']}" if made["allow_impure"] else ""),
        )
    reporter.show(lambda console: console.print(shown, highlight=False))
    return reporter.end(EXIT_OK, {"table": args.output, "commits": commits})


def _rollback(
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec], reporter: Reporter
) -> int:
    before = version = table.version()
    then = args.version
    partitions = _select_at(args, table, specs) if specs else []

    if not specs:
        version = rollback_table(args.output, then)
        reporter.tell(f"The table is restored to version {then}, as version {version}.")
    for partition in partitions:
        version = rollback_partition(args.output, partition, then)
        reporter.tell(f"{partition} is restored to version {then}, as version {version}.")
    reporter.tell(f"To undo: scoreline table rollback --output … --version {before}")
    fields = {
        "table": args.output,
        "rolled_back_to": then,
        "version_before": before,
        "table_version": version,
        "partitions": partitions,
    }
    return reporter.end(EXIT_OK, fields)


def _select_at(
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec]
) -> list[str]:
    """Return the selected partitions of the table, now or at that version."""
    held = read_live_partitions(table)
    known = {live.partition for live in held}
    then = DeltaTable(table.table_uri, version=args.version) if args.version >= 0 else table
    both = [*held, *(p for p in read_live_partitions(then) if p.partition not in known)]
    return [live.partition for live in _select(both, specs)]


def _vacuum(
    args: argparse.Namespace, table: DeltaTable, specs: list[PartitionSpec], reporter: Reporter
) -> int:
    removed = vacuum_table(args.output, args.keep_hours, dry_run=not args.apply)
    what = "removed" if args.apply else "would be removed; remove them with --apply"
    summary = (
        f"{len(removed.data_files)} data files and {len(removed.leftovers)} leftovers older than "
        f"{args.keep_hours} hours {what}"
    )
    reporter.tell(*removed.data_files, *removed.leftovers, summary)
    fields = {
        "table": args.output,
        "keep_hours": args.keep_hours,
        "is_applied": args.apply,
        **removed._asdict(),
    }
    return reporter.end(EXIT_OK, fields)


def _as_number(text: object) -> int | None:
    return None if text is None or text == "" else int(str(text))


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _time(milliseconds: int | None) -> str:
    if not milliseconds:
        return ""
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M UTC")
