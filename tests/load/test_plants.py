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

from scoreline.pipelines.load_test.judge.bottleneck import evidence_of, find_bottleneck
from scoreline.pipelines.load_test.judge.search import End
from tests.load.methods import find_out
from tests.load.quotas import limit_producer

pytestmark = [pytest.mark.kafka, pytest.mark.load, pytest.mark.timeout(3600)]


def test_a_waiting_model_is_limited_by_its_wait(start, model_flag):
    found = find_out(start(model_flag("waiting")))
    capacity = found.capacities[1]
    assert capacity.passes_per_s == pytest.approx(1000, rel=0.12)  # 1 ms a row
    assert (found.bottleneck.stage, found.bottleneck.kind) == ("predict", "wait")
    assert found.bottleneck.confirmed
    assert "not cores" in found.bottleneck.advice


def test_a_busy_model_is_limited_by_its_computing(start, model_flag):
    found = find_out(start(model_flag("busy")))
    assert found.capacities[1].passes_per_s == pytest.approx(found.drain_per_s, rel=0.15)
    assert (found.bottleneck.stage, found.bottleneck.kind) == ("predict", "cpu")
    assert found.bottleneck.confirmed


def test_decoding_of_large_records_is_the_source(start, model_flag):
    extra = {f"unused_{i}": "x" * 40 for i in range(200)}
    values = [orjson.dumps({"id": i, "x": 1.5, **extra}) for i in range(200)]
    found = find_out(start(model_flag("quick"), values=values))
    assert found.bottleneck.kind == "source"


def test_stalls_fail_the_latency_while_the_rate_holds(start, model_flag):
    driver = start(model_flag("waiting"))
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


def test_a_neighbour_on_one_core_makes_the_test_invalid(start, model_flag):
    # Not a child of this process, which would take part.
    burn = "import os\nif os.fork(): os._exit(0)\nos.setsid()\nwhile True: pass"
    before = set(_burners())
    subprocess.run([sys.executable, "-c", burn], check=True)
    try:
        found = find_out(start(model_flag("waiting")), rate_per_s=300.0)
    finally:
        for pid in set(_burners()) - before:
            os.kill(pid, signal.SIGKILL)
    assert found.capacities[1].end is End.INVALID
    assert found.tried[-1].judged.invalid_because == ["neighbour_cpu_share"]


def _burners():
    out = subprocess.run(["pgrep", "-f", "while True: pass"], capture_output=True, text=True)
    return [int(pid) for pid in out.stdout.split()]


def test_the_same_stream_has_the_same_capacity_again(start, model_flag):
    found = [find_out(start(model_flag("waiting"))).capacities[1].passes_per_s for _ in range(3)]
    assert max(found) == pytest.approx(min(found), rel=0.11)


def test_a_quota_of_the_broker_is_the_sink(start, model_flag, broker, tmp_path):
    name = f"scorer-{tmp_path.name}"
    settings = tmp_path / "scorer.properties"
    settings.write_text(f"client.id={name}\n")
    limit_producer(broker, name, 100_000)
    found = find_out(start(model_flag("quick"), f"--kafka_config={settings}"), latency_ms=5000.0)
    assert (found.bottleneck.stage, found.bottleneck.kind) == ("send", "sink")
    assert found.bottleneck.confirmed
    assert "quota" in found.bottleneck.advice


def test_a_sender_that_is_too_slow_is_no_capacity(start, model_flag, broker, tmp_path, monkeypatch):
    name = f"sender-{tmp_path.name}"
    settings = tmp_path / "sender.properties"
    settings.write_text(f"client.id={name}\ncompression.type=none\n")
    values = [orjson.dumps({"id": i, "x": i / 7, "unused": "x" * 1000}) for i in range(1000)]
    driver = start(model_flag("waiting"), values=values, client_settings=str(settings))
    offer = driver.offer

    def offer_slowly(load):  # the backlogs before it would take minutes
        limit_producer(broker, name, int(0.8 * 300 * (len(values[-1]) + 20)))
        return offer(load)

    monkeypatch.setattr(driver, "offer", offer_slowly)
    found = find_out(driver, rate_per_s=300.0, start_per_s=300.0)
    assert found.capacities[1].end is End.INVALID
    assert found.capacities[1].passes_per_s is None
    assert found.tried[-1].judged.invalid_because == ["sender_late_p99_ms"]


def test_a_leak_leaves_hours_until_the_limit(start, plant):
    rate_per_s, limit_mb = 4000.0, 4000.0
    driver = start(*plant(wait_us=100, leak_bytes=200))
    found = find_out(driver, rate_per_s=rate_per_s, memory_mb=limit_mb)
    window, judged = found.at_target.window, found.at_target.judged
    assert judged.memory_hours_left is not None
    left_mb = limit_mb - window.memory_mb[-1]
    grown_mb_per_s = rate_per_s * 200 / 1e6
    assert judged.memory_hours_left == pytest.approx(left_mb / grown_mb_per_s / 3600, rel=0.2)
    limit = find_bottleneck(evidence_of(window, judged, latency_ms=1000.0))
    assert limit.kind == "memory"
    assert "restart workers before" in limit.advice
