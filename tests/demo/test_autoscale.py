"""The arithmetic and the report of the day and of the nights with workers that come and go."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from demo.autoscale_day import (
    PER_S,
    SPIKE,
    SPIKE_S,
    Day,
    find_recovery_s,
    paid_seconds,
    plan_day,
    read_times_of_day,
)
from demo.autoscale_night import Night, fit_two
from demo.autoscale_report import print_comparison, print_day, write_report
from demo.run_autoscale import CLUSTERS
from deploy.local.scaling_rule import Known, Reading
from scoreline.pipelines.load_test.judge.volume import workers_for
from scoreline.pipelines.load_test.result import Series


def test_a_worker_is_paid_from_the_begin_of_its_start_to_its_end():
    # The start of three workers blocks the readings from 10 to 14.
    counts = {0.0: 1, 10.0: 1, 14.0: 4, 20.0: 4, 21.0: 2, 30.0: 2}
    readings = [Reading(at_s, 0, 0, 1, paid) for at_s, paid in counts.items()]
    assert paid_seconds(readings, 0.0, 30.0) == 10 * 1 + 11 * 4 + 9 * 2
    assert paid_seconds(readings, -5.0, 5.0) == 10
    assert paid_seconds(readings, 25.0, 40.0) == 30


def test_the_size_of_a_cluster_is_said_in_words():
    assert [cluster.size for cluster in CLUSTERS] == ["1 worker", "4 workers", "1 to 4 workers"]


def test_a_stream_has_recovered_when_no_record_is_late_for_some_seconds():
    due_s = np.arange(0.0, 60.0, 0.1)
    latency_s = np.where((due_s >= 20) & (due_s < 33), 9.0, 0.5)
    assert find_recovery_s(due_s, latency_s, 30.0) == pytest.approx(2.9)
    assert find_recovery_s(due_s, latency_s, 40.0) == 0
    again = np.where((due_s >= 34) & (due_s < 36), 9.0, latency_s)  # calm for 1.1 s only
    assert find_recovery_s(due_s, again, 30.0) == pytest.approx(5.9)
    assert find_recovery_s(due_s, np.full(due_s.size, np.inf), 30.0) is None


def test_a_day_has_the_flights_own_hours_and_a_spike(tmp_path):
    clock = np.repeat([500, 800, 801, 1730, 2359], [1, 40, 40, 60, 1]).astype(np.int32)
    pq.write_table(pa.table({"sched_dep_time": clock}), tmp_path / "day.parquet")
    times_s = read_times_of_day([tmp_path / "day.parquet"])
    assert times_s.min() == 5 * 3600
    assert times_s.max() == 23 * 3600 + 59 * 60
    offer = plan_day(times_s, 100.0)
    assert np.all(np.diff(offer.due_s) >= 0)
    assert offer.due_s.size == pytest.approx(PER_S * (100 + (SPIKE - 1) * SPIKE_S), rel=0.01)
    begin_s, end_s = offer.spike_s
    inside = np.count_nonzero((offer.due_s >= begin_s) & (offer.due_s < end_s))
    assert inside == pytest.approx(PER_S * (SPIKE - 1) * SPIKE_S, rel=0.2)
    morning = (8 * 3600 - times_s.min()) / (times_s.max() - times_s.min()) * 100
    rush = np.count_nonzero(np.abs(offer.due_s - morning) < 1)
    assert rush == pytest.approx(80 / clock.size * PER_S * 100, rel=0.1)


def test_twice_the_rows_need_the_workers_of_the_line_need():
    volume = fit_two(1000, 12.0, 5000, 20.0)
    assert volume.wall.start_up_s.value == pytest.approx(10.0)
    assert volume.wall.us_per_row.value == pytest.approx(2000.0)
    assert workers_for(5000, 25.0, volume, tested_workers=1).workers.value == 1
    assert workers_for(10_000, 25.0, volume, tested_workers=1).workers.value == 2
    with pytest.raises(ValueError, match="got 11 s and 12 s"):
        fit_two(1000, 12.0, 5000, 11.0)


@pytest.fixture
def day():
    at_s = np.arange(40) + 0.5
    latency = np.where(at_s < 20, 100.0, np.nan)
    return Day(
        cluster="scaled",
        seconds=40.0,
        series=Series(
            at_s=at_s,
            offered_per_s=at_s * 2,
            scored_per_s=at_s * 2,
            backlog=at_s * 3,
            latency_p50_ms=latency,
            latency_p99_ms=latency * 2,
        ),
        workers_at_s=np.array([-3.0, 9.2, 55.0]),
        workers=np.array([1.0, 4.0, 2.0]),
        worker_s=130.4,
        latency_ms=(100.0, np.inf),
        late_share=0.25,
        max_lag=118,
        recovered_s=None,
        changes=1,
        restart_s=11.0,
        not_scored=7,
        extra=0,
        known=Known(470.0, 11.0),
        sender_late_ms=2.4,
        neighbour_cpu_share=0.013,
    )


def test_the_tables_show_workers_lag_and_latency_over_time(day):
    text = io.StringIO()
    console = Console(file=text, width=200)
    print_day(console, day)
    print_comparison(console, [day])
    lines = [line.split() for line in text.getvalue().splitlines()]
    assert lines[1] == ["2", "2", "1", "4.5", "200"]
    assert lines[16][2:] == ["4", "118", "0"]
    assert lines[18] == ["scaled", "130", "100", "∞", "25", "%", "118", "never"]
    assert "sender late p99 2 ms, neighbours 1.3 % CPU" in text.getvalue()
    assert "scaled: 7 records without a score when the day ended, 0 with two" in text.getvalue()


def test_the_report_is_plain_json_and_a_page_without_network(day, tmp_path):
    night = Night(1000, 1, 20.0, 25.0)
    write_report(tmp_path, [day], [night])
    document = json.loads((tmp_path / "autoscale.json").read_text())
    assert document["nights"] == [night._asdict()]
    (found,) = document["days"]
    assert found["worker_s"] == 130.4
    assert found["latency_ms"] == [100.0, None]
    page = (tmp_path / "autoscale.html").read_text()
    assert page.count("<figure>") == 4
    assert "--paper: #ffffff" in page  # the style is that of the load test's report
    assert "http" not in page


def test_nights_alone_have_no_page(tmp_path):
    write_report(tmp_path, [], [Night(1000, 1, 20.0, 25.0)])
    assert [path.name for path in tmp_path.iterdir()] == ["autoscale.json"]
