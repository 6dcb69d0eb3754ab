"""The main job on real data: `make run-local` on this machine, `make run-flink` on Flink.

Prepares the flights from New York in 2013, trains the demo model on January to October, scores
November and December with the batch pipeline, and compares the scores with the actual delays.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
from rich.console import Console

import scoreline
from demo.data import KEY, PARTITION_COLUMN, prepare_flights
from demo.features import is_late
from demo.model import FILLS, OUTPUT, auc, train_flights
from scoreline.pipelines.report.console import make_table, say
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.pipelines.report.reporter import Reporter
from scoreline.pipelines.report.summary import Report
from scoreline.pipelines.score_batch import execute

DATASET = "build/flights"
MODEL = "build/models/flights"
SCORES = "build/scores"
HELD_OUT = "date=2013-11-01..2013-12-31"
_KEPT = ("carrier", "flight", "origin", "dest", "sched_dep_time")
_ROUTES_SHOWN = 3
_MIN_FLIGHTS = 50


def scoring_arguments(partitions: Sequence[str], output: str = SCORES) -> list[str]:
    """Return the command line that scores flights."""
    return [
        f"--input={DATASET}",
        f"--model={MODEL}",
        f"--keys={KEY}",
        f"--keep={','.join(_KEPT)}",
        f"--output={output}",
        *(f"--fill={name}={value}" for name, value in FILLS.items()),
        *(f"--partitions={spec}" for spec in partitions),
    ]


def measure_auc(scores: pa.Table, outcomes: pa.Table) -> tuple[float, int]:
    """Return the AUC of scores against actual delays, and the number of flights that count.

    Flights that never arrived have no outcome and do not count.
    """
    joined = scores.join(outcomes, KEY, join_type="inner")
    arrived = joined.filter(pc.is_valid(joined["arr_delay"]))
    late = is_late(arrived["arr_delay"]).to_numpy()
    return auc(late, arrived[OUTPUT].to_numpy()), arrived.num_rows


def rank_routes(scores: pa.Table) -> list[tuple[str, float, int]]:
    """Return frequent routes with mean probability and number of flights, worst first."""
    routes = scores.group_by(["origin", "dest"]).aggregate([(OUTPUT, "mean"), (OUTPUT, "count")])
    rows = [
        (f"{row['origin']} → {row['dest']}", row[f"{OUTPUT}_mean"], row[f"{OUTPUT}_count"])
        for row in routes.to_pylist()
        if row[f"{OUTPUT}_count"] >= _MIN_FLIGHTS
    ]
    return sorted(rows, key=lambda route: (-route[1], route[0]))


def print_findings(report: Report, console: Console, output: str = SCORES) -> None:
    """Print the quality of the scores, and the best and worst routes."""
    days = [outcome.partition.partition("=")[2] for outcome in report.published]
    wanted = pc.field(PARTITION_COLUMN).isin(days)
    scores = scoreline.open_scores(output).to_table(filter=wanted)
    if not scores.num_rows:
        return
    dataset = pyarrow.dataset.dataset(
        DATASET,
        partitioning=pyarrow.dataset.partitioning(
            pa.schema([(PARTITION_COLUMN, pa.string())]), flavor="hive"
        ),
    )
    outcomes = dataset.to_table(columns=[KEY, "arr_delay"], filter=wanted)
    value, flights = measure_auc(scores, outcomes)
    routes = rank_routes(scores)
    table = make_table()
    table.add_row("AUC", f"{value:.3f} against what happened to {flights:,} flights")
    for title, chosen in (
        ("most late", routes[:_ROUTES_SHOWN]),
        ("least late", routes[: -_ROUTES_SHOWN - 1 : -1]),
    ):
        table.add_row(title, " · ".join(f"{name} {mean:.0%}" for name, mean, _ in chosen))
    table.add_row("table", output)
    console.print(table, highlight=False)
    console.print("\nQuery it:", highlight=False)
    say(console, query_line(output))


def query_line(output: str = SCORES) -> str:
    """Return a shell command that queries the table for the riskiest flights."""
    code = (
        f"import duckdb, scoreline; scores = scoreline.open_scores('{output}'); "
        f"print(duckdb.sql('from scores order by {OUTPUT} desc limit 5'))"
    )
    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    return f'{shown} -c "{code}"'


def main(argv: Sequence[str] | None = None) -> int:
    """Run all steps and return the exit code of the scoring command."""
    set_up_logs()
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--partitions", action="append", metavar="SPEC", help=f"default: {HELD_OUT}"
    )
    parser.add_argument("--output", default=SCORES, metavar="PATH", help=f"default: {SCORES}")
    given, further = parser.parse_known_args(argv)
    reporter = Reporter("batch")
    console = reporter.console
    with console.status("preparing flights"):
        flights = prepare_flights(DATASET)
    made = "found" if flights.was_cached else "wrote"
    console.print(
        f"data        {made} {flights.rows:,} flights in {flights.partitions} partitions, "
        f"{flights.bytes / 1e6:.0f} MB, in {DATASET}",
        highlight=False,
        soft_wrap=True,
    )
    with console.status("training the model (under a minute)"):
        model = train_flights(DATASET, MODEL)
    made = "found" if model.was_cached else f"trained in {model.seconds:.0f} s"
    console.print(
        f"model       {made}; held-out AUC {model.auc:.3f} (rates by hour, carrier, origin: "
        f"{model.baseline_auc:.3f}), in {MODEL}",
        highlight=False,
        soft_wrap=True,
    )
    arguments = scoring_arguments(given.partitions or [HELD_OUT], given.output)
    ended = execute([*arguments, *further], reporter)
    if ended.report is not None:
        print_findings(ended.report, console, given.output)
    return ended.exit_code


if __name__ == "__main__":
    sys.exit(main())
