"""Workers that come with the load and go with it: `make flink-autoscale`.

Replays a day of flights from Kafka in 160 seconds, with a spike of ten times the mean rate, to a
Flink cluster that adds and removes TaskManagers, and to a fixed small and a fixed large one. Then
scores a night, and one with twice the rows, before the same deadline. The model only waits, so that
two cores suffice.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from demo.autoscale_day import (
    PER_S,
    SPIKE,
    SPIKE_S,
    Cluster,
    Day,
    plan_day,
    prepare_stream,
    read_times_of_day,
    run_day,
)
from demo.autoscale_night import Night, run_nights
from demo.autoscale_report import print_comparison, print_day, write_report
from demo.data import prepare_flights
from demo.run_local import DATASET
from deploy.local.flink_cluster import ClusterFailed, FlinkCluster, own_cluster
from deploy.local.scaling_rule import UNKNOWN
from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_OK
from scoreline.pipelines.load_test.driver.child import ChildEnded
from scoreline.pipelines.report.console import make_console, say
from scoreline.pipelines.report.logs import set_up_logs

_BUILD = Path("build")
_FOLDER = _BUILD / "autoscale"
# The small one shows what a worker processes while records wait, which the others then know.
CLUSTERS = (
    Cluster(name="small", min_workers=1, max_workers=1),
    Cluster(name="large", min_workers=4, max_workers=4),
    Cluster(name="scaled", min_workers=1, max_workers=4),
)


def run_days(
    flink: FlinkCluster, brokers: str, seconds: float, further: Sequence[str], console: Console
) -> list[Day]:
    """Offer the same day to each of the clusters."""
    flights = sorted(Path(DATASET).glob("*=*/*.parquet"))
    subject = prepare_stream(flights, _BUILD, brokers, further)
    offer = plan_day(read_times_of_day(flights), seconds)
    say(
        console,
        f"A day in {seconds:g} s: {offer.due_s.size:,} records, {PER_S:g}/s on average, and "
        f"{PER_S * SPIKE:,.0f}/s for {SPIKE_S:g} s",
    )
    days: list[Day] = []
    for cluster in CLUSTERS:
        say(console, f"\n{cluster.name}: {cluster.size}")
        known = days[0].known if days else UNKNOWN
        days.append(
            run_day(subject, flink, cluster, offer, _FOLDER, known, lambda text: say(console, text))
        )
        print_day(console, days[-1])
    return days


def main(argv: Sequence[str] | None = None) -> int:
    """Run days and nights; return 0, or 1 if the deadline of a night was missed."""
    set_up_logs()
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--seconds", type=float, default=160.0, help="of the day; default: 160")
    parser.add_argument("--only", choices=("days", "nights"), help="run only one of the two")
    given, further = parser.parse_known_args(argv)
    console, errors = make_console(), make_console(stderr=True)
    prepare_flights(DATASET)
    try:
        with own_cluster(_FOLDER / "flink", 1, slots=1) as flink:
            days: list[Day] = []
            if given.only != "nights":
                days = run_days(flink, given.brokers, given.seconds, further, console)
                say(console, "")
                print_comparison(console, days)
                write_report(_FOLDER, days, [])
            nights: list[Night] = []
            if given.only != "days":
                say(console, "")
                nights = run_nights(flink, _BUILD, further, console)
                write_report(_FOLDER, days, nights)
    except (ClusterFailed, ChildEnded, TimeoutError, ValueError) as e:
        say(errors, str(e))
        return EXIT_FAILED
    say(console, f"\n{_FOLDER}/autoscale.html, {_FOLDER}/autoscale.json")
    late = any(night.took_s > night.deadline_s for night in nights)
    return EXIT_FAILED if late else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
