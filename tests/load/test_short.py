"""What the driver sees of planted faults, in seconds. The machine may be busy."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from scoreline.pipelines.load_test.arrivals import find_due
from scoreline.pipelines.load_test.driver.loads import Offer
from scoreline.pipelines.load_test.judge.bottleneck import Evidence, find_bottleneck
from scoreline.pipelines.load_test.judge.elements import Outcome, Slos
from scoreline.pipelines.load_test.judge.window import judge_window

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


def test_a_model_that_waits_is_told_from_one_that_computes(start, model_flag):
    waits, computes = (_predict_times(start(model_flag(name))) for name in ("pausing", "busy"))
    # On a busy machine a model that computes also waits: for a core.
    assert waits.useful_s / (waits.useful_s + waits.waiting_s) < 0.15
    assert computes.useful_s / (computes.useful_s + computes.waiting_s) > 0.25


def _predict_times(driver):
    """Return the times of the model while a backlog is worked off, in which it is the suspect."""
    driver.start(backlog=30_000)
    drained = driver.drain(30_000, 5.0)
    driver.stop()
    found = find_bottleneck(Evidence(worker_times=drained.worker_times))
    assert found.stage == "predict"
    (worker,) = drained.worker_times
    return next(stage for stage in worker.stages if stage.name == "predict")


def test_a_sender_that_was_late_makes_a_window_invalid(start, model_flag):
    driver = start(model_flag("quick"))
    began = time.monotonic()
    start_s = driver.start()
    assert 0.5 < start_s < time.monotonic() - began  # Python, the model, the first record
    due = find_due("poisson", 200.0, 11.0, seed=1)
    offer = Offer(phase="ramp", shape="poisson", seed=1, due_s=due, warm_up_s=1.0, window_s=10.0)
    stopper = threading.Thread(target=_pause_sender, args=(driver, 6.0, 1.0))
    stopper.start()
    window = driver.offer(offer)
    stopper.join()
    judged = judge_window(window, Slos(latency_ms=250))
    assert judged.outcome is Outcome.INVALID
    assert "sender_late_p99_ms" in judged.invalid_because
    # An open loop: what was due meanwhile is late by up to a second, and none of it is missing.
    assert np.max(window.sent_s - window.due_s) > 0.9
    assert (window.extra_ids, window.lost_ids) == (0, 0)


def _pause_sender(driver, after_s, for_s):
    """Stop the sender for a while, some time after it was started."""
    while driver._sender is None:
        time.sleep(0.01)
    time.sleep(after_s)
    os.kill(driver._sender.pid, signal.SIGSTOP)
    time.sleep(for_s)
    os.kill(driver._sender.pid, signal.SIGCONT)
