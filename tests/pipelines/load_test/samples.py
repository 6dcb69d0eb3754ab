"""Results of load tests with invented numbers, which the tests of the report show."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np

from scoreline.pipelines.load_test.judge.cost import Cost
from scoreline.pipelines.load_test.judge.demand import Demand
from scoreline.pipelines.load_test.judge.elements import (
    Check,
    Grows,
    Insufficient,
    Interval,
    Judged,
    Limit,
    Outcome,
    Slos,
    StageTimes,
    WorkerTimes,
)
from scoreline.pipelines.load_test.load_results import Soak, Spike, Start, Step
from scoreline.pipelines.load_test.result import (
    Bottleneck,
    Capacity,
    Compared,
    Estimates,
    LoadTest,
    Machine,
    ModelAlone,
    Probe,
    ScalePoint,
    Scaling,
    Series,
    Subject,
    Volume,
    VolumeRun,
)

STARTED = dt.datetime(2026, 11, 28, 1, 10, tzinfo=dt.UTC)
CHECKS = (
    Check("sender_late_p99_ms", 25.0, 2.0, is_ok=True),
    Check("neighbour_cpu_share", 0.05, 0.01, is_ok=True),
    Check("steal_share", 0.02, 0.0, is_ok=True),
    Check("steady_state", 0.1, 0.0, is_ok=True),
    Check("ids_not_once", 0.0, 0.0, is_ok=True),
    Check("littles_law", 0.2, 0.03, is_ok=True),
)
LIMITS = (
    Limit("error_share", 0.0, 0.0, Outcome.PASS),
    Limit("lag_growth_share", 0.01, 0.0004, Outcome.PASS),
    Limit("latency_ms", 250.0, 118.0, Outcome.PASS),
)


def make_judged(outcome=Outcome.PASS, **changes):
    given = {
        "outcome": outcome,
        "sent_per_s": 8001.5,
        "scored_per_s": 7998.25,
        "latency_ms": {
            "p50": Interval(21.0, 20.5, 21.6, 0.99),
            "p95": Interval(64.0, 62.0, 66.0, 0.99),
            "p99": Interval(118.0, 104.0, 139.0, 0.99),
            "p99.9": Insufficient(26_000),
        },
        "design_effect": 3.5,
        "lag_slope_share": Interval(0.0004, -0.001, 0.002),
        "final_backlog": 211,
        "send_late_p99_ms": 2.0,
        "limits": LIMITS,
        "checks": CHECKS,
    }
    return Judged(**{**given, **changes})


def make_series(bins=60):
    at_s = np.arange(bins) + 0.5
    p99 = 100 + 20 * np.sin(at_s / 5)
    p99[7] = np.nan  # nothing was due in this second
    return Series(
        at_s=at_s,
        offered_per_s=8000 + 100 * np.cos(at_s),
        scored_per_s=8000 + 300 * np.sin(at_s),
        backlog=200 + 100 * np.sin(at_s),
        latency_p50_ms=20 + np.sin(at_s),
        latency_p99_ms=p99,
    )


def make_worker(name="here:1", predict_s=40.0):
    stages = (
        StageTimes(name="poll", useful_s=4.0, waiting_s=2.0, rows=480_000, longest_ms=12.0),
        StageTimes(name="decode", useful_s=6.0, waiting_s=0.0, rows=480_000, longest_ms=3.5),
        StageTimes(
            name="predict", useful_s=predict_s, waiting_s=1.0, rows=480_000, longest_ms=21.25
        ),
        StageTimes(name="send", useful_s=3.0, waiting_s=0.5, rows=480_000, longest_ms=4.0),
    )
    return WorkerTimes(worker=name, wall_s=60.0, cpu_s=52.0, idle_s=3.0, stages=stages)


def make_probe(phase="confirm", offered_per_s=8000.0, **changes):
    given = {
        "phase": phase,
        "shape": "poisson",
        "workers": 2,
        "seed": 7,
        "offered_per_s": offered_per_s,
        "window_s": 120.0,
        "rows": 960_000,
        "judged": make_judged(),
        "worker_times": (make_worker(), make_worker("here:2", 30.0)),
        "cpu_us_per_row": 108.5,
        "peak_rss_mb": 812.0,
        "series": make_series(),
    }
    return Probe(**{**given, **changes})


def make_stream(**changes):
    """Return the test of the page in the documentation: a stream that passes."""
    fails = make_judged(
        Outcome.FAIL,
        latency_ms={"p50": Grows(), "p95": Grows(), "p99": Grows(), "p99.9": Grows()},
        lag_slope_share=Interval(0.026, 0.014, 0.038),
    )
    at_target = make_probe()
    given = {
        "started": STARTED,
        "ended": STARTED + dt.timedelta(minutes=27),
        "subject": Subject(
            mode="stream",
            runner="prism",
            model="flights/7",
            model_digest="sha256:1f3c" + "0" * 60,
            version="0.2.0",
            commit="0123456789ab",
            partitions=12,
            workers=2,
            shape="poisson",
            options=("--brokers=localhost:9092", "--model=models/flights/7", "--keys=id"),
        ),
        "machine": Machine(cores=2, cpu="An <i>old</i> CPU", flags=("avx2",), memory_mb=25_000.0),
        "target": Slos(rate_per_s=8000.0, latency_ms=250.0),
        "outcome": Outcome.PASS,
        "limits": LIMITS,
        "headroom": 1.925,
        "probes": (
            at_target,
            make_probe(offered_per_s=15_400.0, series=None),
            make_probe(offered_per_s=16_200.0, judged=fails),
            make_probe("spike", 16_000.0, shape="spike", recovered_s=38.0),
            make_probe("ablation", 20_000.0, replaced="predict", series=None),
        ),
        "at_target": at_target,
        "capacity": Capacity(
            workers=2,
            passes_per_s=15_400.0,
            passed=3,
            pass_windows=3,
            fails_per_s=16_200.0,
            failed=3,
            fail_windows=3,
            fails_because=Limit("lag_growth_share", 0.01, 0.026, Outcome.FAIL),
            lag_at_fail=Interval(0.026, 0.014, 0.038),
            precision=0.05,
        ),
        "estimates": Estimates(
            drain_per_s=16_900.0, busy_time_per_s=14_800.0, harness_per_s=62_000.0
        ),
        "spike": Spike(
            base_per_s=16_000.0, peak_per_s=30_800.0, for_s=30.0, recovered_s=38.0, predicted_s=34.0
        ),
        "start": Start(median_s=7.4, longest_s=8.1, starts=5),
        "step": Step(base_per_s=7700.0, to_per_s=11_600.0, settled_s=3.0),
        "soak": Soak(
            rate_per_s=8000.0,
            seconds=3600.0,
            outcome=Outcome.PASS,
            limits=LIMITS,
            checks=CHECKS,
            lag_slope_share=Interval(0.0001, -0.0002, 0.0004),
            memory_mb=830.0,
            memory_growth_mb_per_h=Interval(3.1, -1.0, 7.2),
        ),
        "bottleneck": Bottleneck(
            stage="predict",
            kind="cpu",
            share=0.71,
            max_over_mean=1.1,
            confirmed=True,
            gain_if_free=1.4,
            advice="More cores, or a cheaper model by `scoreline optimize`.",
        ),
        "model_alone": ModelAlone(
            single_row_p90_ms=0.41,
            offline_per_s=61_000.0,
            server_p99_ms=3.1,
            server_rate_per_s=8000.0,
        ),
        "scaling": Scaling(
            tested=(
                ScalePoint(workers=1, per_s=8300.0),
                ScalePoint(workers=2, per_s=15_400.0),
                ScalePoint(workers=4, per_s=27_100.0),
            ),
            lambda_per_s=8310.0,
            alpha=Interval(0.05, 0.03, 0.08),
            beta=Interval(0.0, 0.0, 0.002),
            max_workers=12,
            demand=Demand(
                rate_per_s=20_000.0,
                workers=Interval(4.0, 4.0, 5.0),
                kind="forecast",
                largest_tested=4,
            ),
        ),
        "cost": Cost(
            currency="EUR",
            per_million=0.031,
            per_million_at_capacity=0.016,
            workers=2,
            prices="prices.yaml",
        ),
        "checks": CHECKS,
        "facts": {"records": 1_248_003.0},
        "compared_with": Compared(
            started=STARTED - dt.timedelta(days=7),
            passes_per_s=15_100.0,
            capacity_change=0.02,
            capacity_within_noise=True,
            p99_ms=121.0,
            p99_change=-0.02,
            p99_within_noise=True,
        ),
    }
    return LoadTest(**{**given, **changes})


def make_batch(**changes):
    """Return the test of a batch that passes."""
    stream = make_stream()
    probes = tuple(
        make_probe("volume", rate, shape="offline", rows=rows, window_s=rows / rate, series=None)
        for rows, rate in ((27_000, 9000.0), (108_000, 21_600.0), (432_000, 33_230.0))
    )
    subject = dataclasses.replace(
        stream.subject, mode="batch", runner="local", partitions=30, shape="offline"
    )
    given = {
        "subject": subject,
        "target": Slos(rows=10_000_000, deadline_s=3600.0),
        "limits": (Limit("deadline_s", 3600.0, 288.0, Outcome.PASS),),
        "headroom": 12.5,
        "probes": probes,
        "at_target": probes[-1],
        "capacity": None,
        "estimates": Estimates(),
        "start": None,
        "spike": None,
        "step": None,
        "soak": None,
        "scaling": Scaling(
            tested=(ScalePoint(workers=1, per_s=20_000.0), ScalePoint(workers=2, per_s=33_230.0)),
            refused_because="expected 4 numbers of workers, got 2",
            demand=Demand(
                rows=1_000_000_000,
                deadline_s=21_600.0,
                by="06:00",
                utilization=1.0,
                workers=None,
                kind="refused",
                largest_tested=2,
                refused_because="expected 4 numbers of workers, got 2",
            ),
        ),
        "volume": Volume(
            runs=(
                VolumeRun(factor=1, rows=27_000, wall_s=3.0, cpu_s=4.4, runs=3),
                VolumeRun(factor=4, rows=108_000, wall_s=5.0, cpu_s=8.1, runs=3),
                VolumeRun(factor=16, rows=432_000, wall_s=13.0, cpu_s=23.5, runs=3),
            ),
            start_up_cpu_s=Interval(3.1, 2.9, 3.3),
            cpu_us_per_row=Interval(47.2, 46.0, 48.8),
            start_up_s=Interval(2.4, 2.2, 2.6),
            wall_us_per_row=Interval(24.4, 23.9, 24.9),
            deadline_s=3600.0,
            rows_before_deadline=Interval(1.2e8, 1.1e8, 1.3e8),
            growing_stage="commit",
            growth=0.3,
        ),
        "compared_with": Compared(
            started=STARTED - dt.timedelta(days=7),
            passes_per_s=None,
            capacity_change=None,
            capacity_within_noise=False,
            row_us=40.0,
            row_change=0.18,
            row_within_noise=False,
        ),
        "cost": Cost(
            currency="EUR",
            per_million=0.02,
            per_million_at_capacity=None,
            workers=2,
            prices="profile",
        ),
    }
    return dataclasses.replace(stream, **{**given, **changes})


def make_failed():
    """Return a stream that does not hold its target."""
    late = Limit("latency_ms", 250.0, 312.0, Outcome.FAIL)
    return make_stream(outcome=Outcome.FAIL, limits=(*LIMITS[:2], late), headroom=0.8)


def make_undecided():
    """Return a stream whose backlog may or may not grow."""
    unclear = Limit("lag_growth_share", 0.01, 0.012, Outcome.UNDECIDED)
    return make_stream(outcome=Outcome.UNDECIDED, limits=(unclear,), headroom=None)


def make_invalid():
    """Return a stream that was measured beside a busy neighbour, until the budget ended it."""
    busy = Check("neighbour_cpu_share", 0.05, 0.34, is_ok=False)
    return make_stream(
        outcome=Outcome.INVALID,
        checks=(CHECKS[0], busy),
        capacity=None,
        bottleneck=None,
        scaling=None,
        spike=None,
        step=None,
        soak=None,
        cost=None,
        compared_with=None,
        headroom=None,
        cut=("the budget of 10 min ended the test before step and spike",),
    )


ALL = {
    "pass": make_stream,
    "fail": make_failed,
    "undecided": make_undecided,
    "invalid": make_invalid,
    "batch": make_batch,
}
