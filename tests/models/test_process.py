"""A model in its own process: the same scores, and calls that kill the process."""

from __future__ import annotations

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from scoreline.models.errors import ModelError
from scoreline.models.process import CallFailed, CallHung, ModelDied, ModelProcess, _decode, _encode
from scoreline.models.runtimes.model import Runtime
from scoreline.models.servable import shared_servable
from scoreline.models.signature import InputColumn, TensorSpec
from tests.fakes import make_rows
from tests.model_zoo import CRASHES, HANGS
from tests.processes import start_script

WAIT_S = 60


def open_process(path, timeout_s=30.0, **options):
    return closing(ModelProcess(path, "serving_default", batch_timeout_s=timeout_s, **options))


def rows_of(b):
    return {
        name: pa.array(values, pa.float32()) for name, values in (("a", [0.5] * len(b)), ("b", b))
    }


def scores_of(process, b):
    return process.predict(rows_of(b), len(b))["y"].to_pylist()


def wait_for(condition):
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)  # polls


def is_gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_scores_signature_and_digest_are_those_of_a_servable(model):
    columns = make_rows(0, 500).combine_chunks().to_batches()[0]
    features = {name: columns[name].slice(3) for name in ("x", "n")}
    features["s"] = columns["s"].slice(3).dictionary_encode()
    servable = shared_servable(model, "serving_default")
    with open_process(model, batch_rows=100, concurrent_calls=1) as process:
        assert process.signature == servable.signature
        assert process.digest == servable.digest
        assert process.load_ms > 0
        assert process.call_size.rows == 100
        assert process.predict(features, 497) == servable.predict(features, 497)
        assert list(process.predict(features, 497, ["score"])) == ["score"]
        assert process.predict({}, 0) == servable.predict({}, 0)
        with pytest.raises(CallFailed, match=r"^KeyError: 'n'"):
            process.predict({"x": columns["x"]}, 500)
        assert process.predict(features, 497, ["score"])["score"].null_count == 0


def test_options_of_inputs_reach_the_workers_unchanged():
    sources = (
        InputColumn(TensorSpec("s", "string", None), "s", b"\xff", "", b"", True),
        InputColumn(TensorSpec("x", "float32", (None, 3), True), "a.b", 1.5, "hash", None, False),
    )
    assert _decode(_encode(sources)) == sources


def test_threads_call_one_after_the_other(zoo):
    with (
        open_process(zoo("model.tflite"), timeout_s=10.0) as process,
        ThreadPoolExecutor(4) as threads,
    ):
        found = threads.map(lambda i: scores_of(process, [float(i)] * (i + 1)), range(200))
        assert list(found) == [[i + 1.0] * (i + 1) for i in range(200)]


def test_a_call_that_hangs_is_given_up_and_the_next_is_answered(zoo):
    with open_process(zoo("perilous.tflite"), timeout_s=3.0) as process:
        assert scores_of(process, [1.0, 2.0]) == [2.0, 3.0]
        lost = process._child._process.pid
        with pytest.raises(CallHung, match=r"^no answer within 3 s \(--batch_timeout_s\)"):
            scores_of(process, [1.0, HANGS])
        assert is_gone(lost)
        assert scores_of(process, [1.0, 2.0]) == [2.0, 3.0]


def test_a_loop_of_a_saved_model_that_hangs_ends_and_its_process_goes_on(zoo):
    with open_process(zoo("hanging"), timeout_s=3.0) as process:
        assert process.runtime == Runtime("c")
        pid = process._child._process.pid
        for _ in range(2):
            with pytest.raises(CallHung, match=r"no answer within 3 s .*; the call was ended$"):
                scores_of(process, [1.0, HANGS])
            assert scores_of(process, [1.0, 2.0]) == [2.0, 3.0]
        assert process._child._process.pid == pid


def test_a_loop_that_hangs_costs_the_process_if_python_calls_the_model(zoo, monkeypatch):
    monkeypatch.setenv("SCORELINE_RUNTIME", "python")
    with open_process(zoo("hanging"), timeout_s=3.0) as process:
        assert process.runtime == Runtime("python")
        with pytest.raises(CallHung, match="the model's process was ended"):
            scores_of(process, [1.0, HANGS])


def test_the_process_loads_the_library_of_tensorflow_and_not_its_python(zoo):
    with open_process(zoo("module")) as process:
        loaded = Path(f"/proc/{process._child._process.pid}/maps").read_text("utf-8")
    assert "libtensorflow_cc" in loaded
    assert "_pywrap_tensorflow" not in loaded


def test_a_crash_of_the_model_is_an_error_of_the_call(zoo):
    with open_process(zoo("perilous.tflite")) as process:
        with pytest.raises(ModelDied, match=r"^the model's process died with signal 8 \(SIGFPE\)$"):
            scores_of(process, [1.0, CRASHES])
        assert scores_of(process, [1.0, 2.0]) == [2.0, 3.0]
        os.kill(process._child._process.pid, signal.SIGKILL)
        with pytest.raises(ModelDied, match=r"signal 9 \(SIGKILL\), as the kernel does when"):
            scores_of(process, [1.0, 2.0])
        assert scores_of(process, [1.0, 2.0]) == [2.0, 3.0]


def test_calls_are_halved_when_the_process_is_killed_as_for_memory(zoo):
    with open_process(zoo("perilous.tflite")) as process:
        before = process.call_size.rows
        for rows, after in ((4096, 2048), (65_536, 1024), (1, 1024)):
            os.kill(process._child._process.pid, signal.SIGKILL)
            with pytest.raises(ModelDied):
                scores_of(process, [1.0] * rows)
            assert scores_of(process, [1.0] * 5000) == [2.0] * 5000
            assert process.call_size.rows == after < before


def test_a_model_that_cannot_be_used_is_refused_with_its_reason(zoo, tmp_path):
    path = zoo("perilous.tflite")
    for wanted, name, options in (
        ("has no signature 'other'", "other", {}),
        ("--model_digest: expected sha256:00", "serving_default", {"digest": "sha256:00"}),
    ):
        with pytest.raises(ModelError, match=wanted):
            ModelProcess(path, name, batch_timeout_s=1.0, **options)
    with pytest.raises(ModelError, match="missing"):
        ModelProcess(str(tmp_path / "missing"), "serving_default", batch_timeout_s=1.0)


def test_a_model_that_hangs_on_its_first_call_is_refused(zoo, monkeypatch):
    monkeypatch.setattr("scoreline.models.process._MIN_LOAD_S", 8.0)
    with pytest.raises(ModelError, match=r"does not load and answer a call .* within 8 s\. "):
        ModelProcess(zoo("hangs_on_zeros.tflite"), "serving_default", batch_timeout_s=0.5)


def test_a_model_that_is_gone_when_it_must_be_loaded_again_is_no_error_of_the_rows(zoo, tmp_path):
    path = tmp_path / "model.tflite"
    shutil.copy(zoo("model.tflite"), path)
    with open_process(str(path)) as process:
        path.unlink()
        os.kill(process._child._process.pid, signal.SIGKILL)
        with pytest.raises(ModelDied):
            scores_of(process, [1.0])
        with pytest.raises(ModelError, match=str(path)):
            scores_of(process, [1.0])


def test_the_process_ends_when_it_is_closed_or_forgotten(zoo):
    with open_process(zoo("model.tflite")) as process:
        pid = process._child._process.pid
    assert is_gone(pid)
    process = ModelProcess(zoo("model.tflite"), "serving_default", batch_timeout_s=9.0)
    pid = process._child._process.pid
    del process
    assert is_gone(pid)


@pytest.mark.parametrize("b", ["[1.0]", f"[{HANGS}]"], ids=["idle", "within a call"])
def test_the_process_ends_when_its_parent_is_killed(zoo, tmp_path, b):
    script = f"""
import sys, time
import pyarrow as pa
from scoreline.models.process import ModelProcess
process = ModelProcess({zoo("perilous.tflite")!r}, "serving_default", batch_timeout_s=1000.0)
print(process._child._process.pid, flush=True)
process.predict({{n: pa.array({b}, pa.float32()) for n in ("a", "b")}}, 1)
time.sleep(1000)
"""
    parent = start_script(tmp_path, script)
    try:
        child = psutil.Process(int(parent.stdout.readline()))
        if b != "[1.0]":  # the loop has started once it uses CPU time
            before = child.cpu_times().user
            wait_for(lambda: child.cpu_times().user > before + 0.2)
        assert child.is_running()
    finally:
        parent.kill()
        parent.communicate()
    wait_for(lambda: is_gone(child.pid))
