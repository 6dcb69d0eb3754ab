"""The page of text: a line for each finding, with its interval, and nothing that was not found."""

from __future__ import annotations

import dataclasses
import math

import pytest

from scoreline.pipelines.load_test.judge.elements import (
    Check,
    Grows,
    Interval,
    Limit,
    Outcome,
    Slos,
)
from scoreline.pipelines.load_test.load_results import Start
from scoreline.pipelines.load_test.report import numbers
from scoreline.pipelines.load_test.report.limits import describe_limit, describe_target
from scoreline.pipelines.load_test.report.page import lines_of, render
from tests.pipelines.load_test import samples

PASS = """\
scoreline load-test · flights/7 (sha256 1f3c…) · stream · prism · kafka 12 partitions · 2 workers \
· 2026-11-28 01:10 · 27 min
VERDICT   PASS   target 8,000/s with p99 ≤ 250 ms: holds, with 1.93 × to spare
capacity  15,400/s passes (3/3) · 16,200/s fails (3/3: lag +2.6 % [1.4, 3.8])   precision 5 %
estimates drain 16,900 · busy time 14,800 · bisect 15,400
latency   at 8,000/s   p50 21 · p95 64 · p99 118 [104, 139] · p99.9 insufficient samples \
(needs 26,000)   ms
start     first score after 7.4 s (median of 5 starts; longest 8.1 s)
spike     16,000 → 30,800/s for 30 s: recovered in 38 s (predicted 34)
step      7,700 → 11,600/s: settled in 3 s
soak      8,000/s for 60 min: holds · lag 0.01 % [−0.02, 0.04] · memory 830 MB · growth \
3.1 [−1, 7.2] MB an hour
limit     predict, CPU (71 % of the slowest worker; workers even, 1.1); without it +140 % (ablation)
          More cores, or a cheaper model by `scoreline optimize`.
model     alone 61,000/s in large calls · a single row 0.41 ms (p90) · at 8,000/s p99 3.1 ms   \
(MLPerf LoadGen)
memory    812 MB at most
workers   1: 8,300  2: 15,400  4: 27,100 /s   α 0.05 [0.03, 0.08]  β 0 [0, 0.002]   partitions \
cap at 12
need      for 20,000/s at 70 % utilization: 4 workers [4, 5] (forecast; largest tested 4)
cost      0.031 EUR per million at 8,000/s (2 workers paid) · 0.016 at capacity   prices: \
prices.yaml
valid     sender late p99 2 ms · neighbours 1 % CPU · ids 1,248,003 once each · harness 62,000/s
last run  2026-11-21: capacity 15,100 (+2 %, within noise), p99 121 (−2 %, within noise)"""


def test_the_page_of_a_stream_that_passes():
    assert render(samples.make_stream()) == PASS


def texts(test):
    return {line.label: line.text for line in lines_of(test)}


def test_the_page_of_a_failure_names_the_limit_that_fails():
    verdict = texts(samples.make_failed())["VERDICT"]
    assert verdict.startswith("FAIL   target 8,000/s with p99 ≤ 250 ms: does not hold: p99 312 ms")
    assert verdict.endswith("> 250 ms")


def test_the_page_of_an_undecided_test_tells_what_is_undecided():
    verdict = texts(samples.make_undecided())["VERDICT"]
    assert verdict.startswith("UNDECIDED")
    assert verdict.endswith("undecided: growth of the backlog 1.2 % around 1 %")


def test_an_invalid_measurement_shows_no_number_of_the_pipeline():
    for capacity in (None, samples.make_stream().capacity):
        test = dataclasses.replace(samples.make_invalid(), capacity=capacity)
        assert texts(test).keys() == {"VERDICT", "valid", "cut"}
        assert texts(test)["VERDICT"].endswith(
            "no verdict: neighbours 34 % CPU (expected at most 5 % CPU)"
        )
        assert "15,400" not in render(test)


def test_the_page_of_a_batch_has_volumes_and_no_rates():
    found = texts(samples.make_batch())
    assert not {"capacity", "estimates", "latency", "spike"} & found.keys()
    assert found["VERDICT"].endswith("10,000,000 rows within 60 min: holds, with 12.5 × to spare")
    assert found["volume"].startswith("×1 27,000 rows in 3 s · ×4 108,000 rows in 5 s · ×16")
    assert found["cost/row"] == (
        "start-up 3.1 s [2.9, 3.3] CPU · 47.2 µs [46, 48.8] CPU a row · "
        "start-up 2.4 s [2.2, 2.6] wall time · 24.4 µs [23.9, 24.9] wall time a row"
    )
    assert found["cost"].startswith("0.02 EUR per million at the largest volume (2 workers paid)")
    assert found["deadline"].startswith(
        "120,000,000 [110,000,000, 130,000,000] rows fit within 60 min"
    )
    assert found["growth"] == "commit grows with the volume: +30 % for 10 × the rows"
    assert found["need"] == (
        "for 1,000,000,000 rows by 06:00, within 6 h: refused: expected 4 numbers of workers, got 2"
    )
    assert found["last run"] == "2026-11-21: CPU a row 40 µs (+18 %)"


def test_a_capacity_without_a_load_that_passes_or_fails():
    capacity = samples.make_stream().capacity
    none = dataclasses.replace(capacity, passes_per_s=None)
    assert texts(samples.make_stream(capacity=none))["capacity"].startswith(
        "no tested load passes · 16,200/s fails"
    )
    all_ = dataclasses.replace(capacity, fails_per_s=None, limited_by_harness=True)
    found = texts(samples.make_stream(capacity=all_))["capacity"]
    assert found.startswith("15,400/s passes (3/3) · no tested load fails")
    assert found.endswith("limited by the harness")


def test_a_load_that_fails_by_its_latency_tells_that():
    late = Limit("latency_ms", 250.0, 400.0, Outcome.FAIL)
    capacity = dataclasses.replace(samples.make_stream().capacity, fails_because=late)
    found = texts(samples.make_stream(capacity=capacity))["capacity"]
    assert "16,200/s fails (3/3: p99 400 ms > 250 ms)" in found


def test_a_queue_that_grows_has_no_percentile():
    judged = samples.make_judged(latency_ms={"p99": Grows()})
    test = samples.make_stream(at_target=samples.make_probe(judged=judged))
    assert "p99 none: the queue grows" in texts(test)["latency"]


def test_a_leak_tells_the_hours_that_are_left():
    judged = samples.make_judged(memory_hours_left=61.5)
    test = samples.make_stream(
        at_target=samples.make_probe(judged=judged), target=Slos(memory_mb=4000.0)
    )
    assert texts(test)["memory"] == "812 MB at most of 4,000 MB, growing: 61.5 h until the limit"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"confirmed": None},
            "if it were free: +140 % by Amdahl's law; not confirmed: ablation was not tried",
        ),
        ({"confirmed": None, "gain_if_free": None}, "1.1); not confirmed: ablation was not tried"),
        ({"stage": "", "kind": "none"}, "no stage"),
        ({"confirmed": False}, "not confirmed: the capacity is the same without it (ablation)"),
        ({"gain_if_free": None}, "confirmed (ablation)"),
        ({"max_over_mean": 3.25}, "workers uneven, 3.25"),
        ({"kind": "wait"}, "predict, waiting ("),
    ],
)
def test_a_bottleneck_tells_how_sure_it_is(changes, told):
    bottleneck = dataclasses.replace(samples.make_stream().bottleneck, **changes)
    assert told in texts(samples.make_stream(bottleneck=bottleneck))["limit"]


def test_a_spike_without_recovery():
    spike = dataclasses.replace(samples.make_stream().spike, recovered_s=None, predicted_s=None)
    assert texts(samples.make_stream(spike=spike))["spike"].endswith("for 30 s: did not recover")


def test_a_single_start_has_no_longest():
    start = Start(median_s=7.4, longest_s=7.4, starts=1)
    found = texts(samples.make_stream(start=start))["start"]
    assert found == "first score after 7.4 s (median of 1 start)"


@pytest.mark.parametrize(
    ("settled_s", "told"), [(None, "did not settle"), (0.0, "settled at once")]
)
def test_a_step_that_settles_at_once_or_never(settled_s, told):
    step = dataclasses.replace(samples.make_stream().step, settled_s=settled_s)
    assert texts(samples.make_stream(step=step))["step"] == f"7,700 → 11,600/s: {told}"


def test_a_soak_that_fails_names_its_limits_and_the_hours_that_a_leak_leaves():
    over = Limit("memory_mb", 4000.0, 4100.0, Outcome.FAIL)
    soak = dataclasses.replace(
        samples.make_stream().soak, outcome=Outcome.FAIL, limits=(over,), memory_hours_left=0.0
    )
    test = samples.make_stream(soak=soak, outcome=Outcome.FAIL)
    assert texts(test)["soak"].startswith("8,000/s for 60 min: does not hold (memory) · lag")
    assert texts(test)["soak"].endswith(" MB an hour · 0 h until the limit")
    assert texts(test)["VERDICT"].endswith("does not hold: soak: memory 4,100 MB > 4,000 MB")


def test_a_soak_that_is_invalid_tells_why():
    busy = Check("neighbour_cpu_share", 0.05, 0.34, is_ok=False)
    soak = dataclasses.replace(samples.make_stream().soak, checks=(busy,), outcome=Outcome.INVALID)
    test = samples.make_stream(soak=soak, outcome=Outcome.INVALID)
    assert texts(test)["VERDICT"].endswith(
        "no verdict: soak: neighbours 34 % CPU (expected at most 5 % CPU)"
    )


def test_every_limit_of_a_target_is_written():
    target = Slos(
        rate_per_s=500.0,
        latency_percentile=99.9,
        latency_ms=80.0,
        freshness_s=5.0,
        recover_s=60.0,
        error_share=0.001,
        memory_mb=2000.0,
        cost_per_million=0.5,
    )
    assert describe_target(target) == (
        "500/s with p99.9 ≤ 80 ms, no row older than 5 s, recovery ≤ 60 s, dead letters ≤ 0.1 %, "
        "memory ≤ 2,000 MB, cost ≤ 0.5 per million"
    )
    unmeasured = Limit("recover_s", 60.0, None, Outcome.UNDECIDED)
    assert describe_limit(unmeasured, target) == "time to recover not measured (limit 60 s)"
    low = Limit("scored_share", 0.99, 0.8, Outcome.FAIL)
    assert describe_limit(low, target) == "rows out of rows in 80 % < 99 %"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"),
        (math.nan, "unknown"),
        (math.inf, "∞"),
        (0.0, "0"),
        (21.0, "21"),
        (21.26, "21.3"),
        (0.03125, "0.0312"),
        (0.00001234, "1.2e−05"),
        (1234.5, "1,234"),
        (-2.5, "−2.5"),
        (1_248_003.0, "1,248,003"),
    ],
)
def test_numbers(value, text):
    assert numbers.number(value) == text


def test_shares_and_intervals():
    assert numbers.percent(0.026, signed=True) == "+2.6 %"
    assert numbers.percent(-0.00001) == "0 %"
    assert numbers.percent(0.712) == "71 %"
    reaching = Interval(118.0, 104.0, math.inf)
    assert numbers.percentile(reaching, is_whole=True) == "118 [104, ∞]"
    assert [numbers.duration(s) for s in (38, 1620, 21_600, 864_000)] == [
        "38 s",
        "27 min",
        "6 h",
        "10 days",
    ]
