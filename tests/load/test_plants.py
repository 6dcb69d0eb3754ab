"""Whole load tests of streams with something planted: `make load-plants` on a quiet machine.

Each takes minutes, and needs a machine without neighbours: with them a test is invalid, as it must
be. Therefore they are not in `make test`.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import orjson
import pytest

from scoreline.pipelines.load_test.budget import Budget
from scoreline.pipelines.load_test.judge.elements import Slos
from scoreline.pipelines.load_test.judge.search import End, Precision
from scoreline.pipelines.load_test.stream_method import StreamTest
from scoreline.pipelines.load_test.stream_plan import Plan

pytestmark = [pytest.mark.kafka, pytest.mark.load, pytest.mark.timeout(3600)]
WINDOW_S = float(os.environ.get("SCORELINE_LOAD_WINDOW_S", "30"))


def find_out(driver, *, latency_ms=1000.0, workers=(1,), partitions=4, rate_per_s=None):
    plan = Plan(
        slos=Slos(latency_ms=latency_ms, rate_per_s=rate_per_s),
        workers=workers,
        precision=Precision(0.1, WINDOW_S),
        partitions=partitions,
        cores=os.cpu_count(),
    )
    found = StreamTest(driver, plan, Budget(None), lambda text: print(text, flush=True)).run()
    print(found.capacities, found.drain_per_s, found.bottleneck)
    return found


def test_a_waiting_model_is_limited_by_its_wait(start):
    found = find_out(start("waiting"))
    capacity = found.capacities[1]
    assert capacity.passes_per_s == pytest.approx(1000, rel=0.12)  # 1 ms a row
    assert (found.bottleneck.stage, found.bottleneck.kind) == ("predict", "wait")
    assert found.bottleneck.confirmed
    assert "not cores" in found.bottleneck.advice


def test_a_busy_model_is_limited_by_its_computing(start):
    found = find_out(start("busy"))
    assert found.capacities[1].passes_per_s == pytest.approx(found.drain_per_s, rel=0.15)
    assert (found.bottleneck.stage, found.bottleneck.kind) == ("predict", "cpu")
    assert found.bottleneck.confirmed


def test_decoding_of_large_records_is_the_source(start):
    extra = {f"unused_{i}": "x" * 40 for i in range(200)}
    values = [orjson.dumps({"id": i, "x": 1.5, **extra}) for i in range(200)]
    found = find_out(start("quick", values=values))
    assert found.bottleneck.kind == "source"


def test_stalls_fail_the_latency_while_the_rate_holds(start):
    driver = start("waiting")
    ended = threading.Event()
    thread = threading.Thread(target=_stall, args=(driver, ended))
    thread.start()
    try:
        found = find_out(driver, latency_ms=250.0, rate_per_s=300.0)
    finally:
        ended.set()
        thread.join()
    assert found.capacities[1].passes_per_s is None or found.capacities[1].passes_per_s < 300
    failed = [limit.name for limit in found.at_target.judged.limits if limit.outcome == "fail"]
    assert failed == ["latency_ms"]


def _stall(driver, ended):
    """Stop the stream for 500 ms each 10 s."""
    while not ended.wait(9.5):
        scorer = driver._scorer
        if scorer is not None and scorer.is_running():
            os.kill(scorer.pid, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(scorer.pid, signal.SIGCONT)


def test_a_neighbour_on_one_core_makes_the_test_invalid(start):
    # Not a child of this process, which would take part.
    burn = "import os\nif os.fork(): os._exit(0)\nos.setsid()\nwhile True: pass"
    before = set(_burners())
    subprocess.run([sys.executable, "-c", burn], check=True)
    try:
        found = find_out(start("waiting"), rate_per_s=300.0)
    finally:
        for pid in set(_burners()) - before:
            os.kill(pid, signal.SIGKILL)
    assert found.capacities[1].end is End.INVALID
    assert found.tried[-1].judged.invalid_because == ["neighbour_cpu_share"]


def _burners():
    out = subprocess.run(["pgrep", "-f", "while True: pass"], capture_output=True, text=True)
    return [int(pid) for pid in out.stdout.split()]


def test_the_same_stream_has_the_same_capacity_again(start):
    one, two = (find_out(start("waiting")).capacities[1].passes_per_s for _ in range(2))
    assert one == pytest.approx(two, rel=0.11)
