from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.waiting_model import save_waiting
from scoreline.transforms import metrics, stage_times
from scoreline.transforms.bundle_metrics import BundleMetrics
from scoreline.transforms.stage_times import make_histogram, marked, read_stage_times
from tests.fakes import ROOT
from tests.timed_models import save_busy

EVER = (0.0, 9e9)
LINE = {
    "host": "here",
    "pid": 7,
    "worker": 0,
    "workers": 1,
    "at_s": 10.0,
    "interval_s": 1.0,
    "cpu_s": 0.5,
    "rss_mb": 100.0,
    "stages": {},
}
ZERO = {
    "useful_s": 0.0,
    "waiting_s": 0.0,
    "idle_s": 0.0,
    "rows": 0,
    "calls": 0,
    "longest_ms": 0.0,
    "histogram_us": "",
}


@pytest.fixture
def recording(tmp_path):
    """Record into a folder, and return a function that ends that and reads what was recorded."""
    directory = str(tmp_path / "times")
    stage_times.start(directory)

    def read():
        stage_times.stop(directory)
        return read_stage_times(directory, *EVER)

    yield read
    stage_times.stop(directory)
    assert stage_times.active is None


def run_python(code, *args):
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def write_lines(path, *lines, end="\n"):
    path.write_text("\n".join(map(json.dumps, lines)) + end)


def burn(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_without_a_recorder_nothing_is_recorded():
    assert stage_times.active is None
    with marked("send"), BundleMetrics().timed(metrics.SEND_MS):
        pass
    stage_times.start("")
    assert stage_times.active is None


def test_the_times_of_a_step_are_calls_of_its_stage(recording):
    kept = BundleMetrics()
    for rows in (3, 4):
        with kept.timed(metrics.FEATURES_MS):
            burn(0.02)
        kept.pass_rows(metrics.FEATURES_MS, rows)
    with metrics.Tally().timed(metrics.READ_MS):  # a notebook, or a model that is compared
        burn(0.01)
    (worker,) = recording()
    assert list(worker.stages) == ["features"]
    stage = worker.stages["features"]
    assert (stage.rows, stage.calls, stage.idle_s) == (7, 2, 0)
    assert stage.useful_s >= 0.04
    assert stage.useful_s + stage.waiting_s <= worker.wall_s
    assert stage.longest_ms >= 20
    assert stage.histogram_us.get_total_count() == 2
    assert worker.rss_mb > 10
    assert worker.cpu_s >= stage.useful_s
    assert worker.name.endswith("/0")


def test_a_stage_pauses_while_another_one_runs_within_it(recording):
    with marked("send"):
        burn(0.03)
        with marked("commit"):
            burn(0.05)
    (worker,) = recording()
    send, commit = worker.stages["send"], worker.stages["commit"]
    assert 0.03 <= send.useful_s < 0.05 <= commit.useful_s
    assert (send.calls, commit.calls) == (1, 1)
    assert send.useful_s + send.waiting_s + commit.useful_s + commit.waiting_s <= worker.wall_s


def test_waiting_and_idle_time_are_apart(recording):
    never = threading.Event()
    with marked("poll"):
        never.wait(0.05)
        with marked("poll", is_idle=True):
            never.wait(0.1)
    (worker,) = recording()
    poll = worker.stages["poll"]
    assert poll.waiting_s + poll.useful_s >= 0.05
    assert poll.idle_s >= 0.09
    assert worker.idle_s == poll.idle_s
    assert poll.calls == 1
    assert poll.longest_ms / 1000 <= poll.waiting_s + poll.useful_s  # the idle time is no call's


def test_an_open_call_is_in_the_lines_that_it_lasts_over(recording):
    began, goes_on = threading.Event(), threading.Event()

    def call():
        with marked("stage"):
            burn(0.02)
            began.set()
            goes_on.wait()

    with ThreadPoolExecutor(1) as pool:
        called = pool.submit(call)
        began.wait()
        stage_times.active.write()
        (worker,) = read_stage_times(stage_times.active.directory, *EVER)
        assert worker.stages["stage"].useful_s >= 0.02
        assert worker.stages["stage"].calls == 0
        goes_on.set()
        called.result()
    (worker,) = recording()
    assert worker.stages["stage"].calls == 1
    assert worker.stages["stage"].longest_ms >= 20  # of the whole call


def test_threads_at_the_same_time_are_workers_and_later_ones_take_their_place(recording):
    together = threading.Barrier(3)

    def bundle(meets):
        kept = BundleMetrics()
        with kept.timed(metrics.READ_MS):
            if meets:
                together.wait()
        kept.pass_rows(metrics.READ_MS, 5)
        stage_times.leave()
        if meets:
            together.wait()  # all have begun a bundle before one of them ends

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(bundle, [True] * 3))
        with ThreadPoolExecutor(1) as another:
            another.submit(bundle, False).result()
    with ThreadPoolExecutor(2) as others:  # the first ones have ended
        list(others.map(bundle, [False] * 2))
    workers = recording()
    assert [worker.worker for worker in workers] == [0, 1, 2]
    assert {worker.workers for worker in workers} == {3}
    assert sum(worker.stages["read"].rows for worker in workers) == 30
    assert sum(worker.stages["read"].calls for worker in workers) == 6


def test_a_reader_is_one_worker_in_whichever_thread_it_runs(recording):
    """Two threads run a busy and a quiet reader in changing turns, once both in one bundle."""

    def bundle(*slots):
        kept = BundleMetrics()
        for slot in slots:
            stage_times.active.work_as(slot)
            with kept.timed(metrics.READ_MS):
                pass
            kept.pass_rows(metrics.READ_MS, 80 if slot == 0 else 10)
        stage_times.leave()

    for _ in range(2):
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
            one.submit(bundle, 0).result()
            other.submit(bundle, 1).result()
            other.submit(bundle, 0).result()
            one.submit(bundle, 1, 0).result()
    workers = recording()
    rows = [worker.stages["read"].rows for worker in workers]
    assert rows == [6 * 80, 4 * 10]


def test_a_thread_that_only_prepared_a_reader_is_no_worker(recording):
    kept = BundleMetrics()
    with kept.timed(metrics.READ_MS):
        pass
    stage_times.active.write()
    prepared_s = time.time()
    stage_times.active.work_as(0)
    with kept.timed(metrics.READ_MS):
        time.sleep(0.02)
    directory = stage_times.active.directory
    recording()
    workers = read_stage_times(directory, prepared_s, EVER[1])
    assert [worker.worker for worker in workers] == [1]


def test_a_call_of_a_reader_is_not_taken_from_its_thread(recording):
    kept = BundleMetrics()
    stage_times.active.work_as(0)
    with kept.timed(metrics.READ_MS), ThreadPoolExecutor(1) as other:
        other.submit(stage_times.active.work_as, 0).result()
    kept.pass_rows(metrics.READ_MS, 5)
    (worker,) = recording()
    assert (worker.stages["read"].calls, worker.stages["read"].rows) == (1, 5)


def test_a_recorder_lasts_until_its_last_user_and_another_folder_ends_it(tmp_path):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    stage_times.start(one)
    stage_times.start(one)
    stage_times.stop(one)
    assert stage_times.active is not None
    stage_times.start(two)
    assert stage_times.active.directory == two
    stage_times.stop(one)  # of the earlier job
    assert stage_times.active is not None
    stage_times.stop(two)
    assert stage_times.active is None


def test_a_line_counts_if_its_middle_is_in_the_window(tmp_path):
    stage = {"read": {**ZERO, "useful_s": 0.25, "rows": 10}}
    lines = [{**LINE, "at_s": 10.0 + at, "stages": stage, "rss_mb": 100 + at} for at in range(4)]
    write_lines(tmp_path / "a.jsonl", *lines)
    assert read_stage_times(tmp_path / "none", *EVER) == []
    (worker,) = read_stage_times(tmp_path, 10.0, 12.0)  # those of 10 to 11 and of 11 to 12
    assert (worker.wall_s, worker.cpu_s, worker.rss_mb) == (2.0, 1.0, 102.0)
    assert (worker.stages["read"].useful_s, worker.stages["read"].rows) == (0.5, 20)
    assert read_stage_times(tmp_path, 20.0, 30.0) == []
    whole, first, second = (
        read_stage_times(tmp_path, *window)[0].wall_s for window in (EVER, (0, 11.2), (11.2, 99))
    )
    assert whole == first + second == 4.0


def test_cpu_of_a_process_is_divided_by_its_workers(tmp_path):
    write_lines(tmp_path / "a.jsonl", *({**LINE, "worker": n, "workers": 2} for n in range(2)))
    write_lines(tmp_path / "b.jsonl", {**LINE, "pid": 8})
    found = read_stage_times(tmp_path, *EVER)
    assert [(w.pid, w.worker, w.cpu_s) for w in found] == [(7, 0, 0.25), (7, 1, 0.25), (8, 0, 0.5)]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    whole = json.dumps(LINE)
    for cut in range(len(whole)):
        (tmp_path / "a.jsonl").write_text(whole + "\n" + whole[:cut])
        (worker,) = read_stage_times(tmp_path, *EVER)
        assert worker.wall_s == 1.0


def test_what_no_recorder_wrote_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(LINE) + "\nhello\n")
    with pytest.raises(ValueError, match=r"expected a JSON object in line 2 of .*a\.jsonl, got 'h"):
        read_stage_times(tmp_path, *EVER)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 4_000_000_000), max_size=30), min_size=1, max_size=5))
def test_percentiles_of_merged_histograms_are_those_of_all_calls(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("times")
    lines = [
        {**LINE, "stages": {"send": {**ZERO, "histogram_us": stage_times._encode(calls)}}}
        for calls in parts
    ]
    write_lines(folder / "a.jsonl", *lines)
    (worker,) = read_stage_times(folder, *EVER)
    merged, whole = worker.stages["send"].histogram_us, make_histogram()
    for value in (min(max(call, 1), 3_600_000_000) for calls in parts for call in calls):
        whole.record_value(value)
    assert merged.get_total_count() == whole.get_total_count()
    for percentile in (0, 50, 90, 99, 99.9, 100):
        assert merged.get_value_at_percentile(percentile) == whole.get_value_at_percentile(
            percentile
        )


@pytest.fixture(scope="module")
def timed_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timed")
    return {
        "busy": save_busy(folder / "busy", size=256),
        "waiting": save_waiting(folder / "waiting", us_per_row=1000),
    }


_CALL = """
import sys, threading
import numpy as np, pyarrow as pa
from scoreline.models.model_spec import ModelSpec
from demo.waiting_model import save_waiting
from scoreline.transforms import metrics, stage_times
from scoreline.transforms.bundle_metrics import BundleMetrics

directory, calls, *models = sys.argv[1:]
calls = int(calls) or None
x = pa.array(np.ones(100, np.float32))

def work(spec, directory, ready):
    servable = spec.load()
    assert servable.predict({"x": x}, 100)["y"].equals(x)
    ready.wait()
    stage_times.start(directory)
    ready.wait()
    kept = BundleMetrics()
    for _ in range(4):
        with kept.timed(metrics.PREDICT_MS):
            servable.predict({"x": x}, 100)
    ready.wait()
    stage_times.stop(directory)
    servable.close()

for timeout_s in (None, 60.0) if calls == 1 else (None,):
    for path in models:
        spec = ModelSpec(
            path=path, concurrent_calls=calls, batch_rows=1024, batch_timeout_s=timeout_s
        )
        name = path.rpartition("/")[2] + ("_apart" if timeout_s else "")
        ready = threading.Barrier(calls or 1)
        args = (spec, f"{directory}/{name}", ready)
        threads = [threading.Thread(target=work, args=args) for _ in range(calls or 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
"""


@pytest.mark.parametrize("calls", [0, 1, 4], ids=["tensorflow_decides", "1", "4"])
def test_a_model_that_computes_is_useful_and_one_that_sleeps_waits(timed_models, tmp_path, calls):
    """Also in a process of the model's own.

    Busy calls also wait for a core and for each other. So useful time is held against the CPU time
    of the process, not against the wall.
    """
    run_python(_CALL, str(tmp_path), str(calls), *timed_models.values())
    cases = {path.name: read_stage_times(str(path), *EVER) for path in tmp_path.iterdir()}
    apart = {"busy_apart", "waiting_apart"} if calls == 1 else set()
    assert cases.keys() == {"busy", "waiting"} | apart
    for name, workers in cases.items():
        assert len(workers) == max(calls, 1)
        stages = [worker.stages["predict"] for worker in workers]
        assert {stage.calls for stage in stages} == {4}
        useful_s = sum(stage.useful_s for stage in stages)
        waiting_s = sum(stage.waiting_s for stage in stages)
        cpu_s = sum(worker.cpu_s for worker in workers)
        assert useful_s < cpu_s * 1.05 + 0.01
        if name.startswith("busy"):
            assert useful_s > 0.1
            assert useful_s > 0.4 * cpu_s  # threads within an op use more CPU than wall time
        else:
            assert waiting_s > 0.4  # four calls of 0.1 s each
            assert useful_s < 0.2 * waiting_s


def test_a_process_that_ends_in_order_writes_its_last_second(tmp_path):
    code = (
        "import sys; from scoreline.transforms import stage_times as s\n"
        "s.start(sys.argv[1])\n"
        "with s.marked('read'): sum(range(10**6))\n"
    )
    run_python(code, str(tmp_path))
    (worker,) = read_stage_times(tmp_path, *EVER)
    assert worker.stages["read"].calls == 1
