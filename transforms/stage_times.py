"""Where the time of a worker goes, stage by stage: recorded by workers, read by a load test.

    start("/tmp/times")         # a worker, in setup; `stop` in teardown
    read_stage_times("/tmp/times", begin_s, end_s)

While a recorder runs, each block that `BundleMetrics.timed` measures is one call of a stage. A
stage's time is its wall time without the stages within it. It is useful (it used a CPU), waiting
(for a lock, a disk, a broker, a core, a model that sleeps) or idle (there were no records to read).
Useful is the CPU time of the calling thread. The stage `predict` also gets the CPU time of the
model's own threads and processes, since TensorFlow computes there while the caller waits.

A worker is one of the threads that run bundles at the same time: a runner may run its next bundle
in another thread. A reader of a stream is a worker of its own, in whichever thread it runs. Once a
second each process appends one JSON line for each worker to its file. Linux only, without Beam.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from scoreline.models.cpu_time import ModelCpu
from scoreline.transforms.worker_clock import Frame, Times, WorkerClock

STAGES = ("poll", "read", "decode", "features", "predict", "encode", "send", "stage", "commit")
_PREDICT = "predict"
_EVERY_SECONDS = 1.0
# A histogram counts microseconds up to one hour, with an error of 1 %.
_MAX_US, _DIGITS = 3_600_000_000, 2


class Recorder:
    """Records the stages of all workers in this process, and writes them once a second."""

    def __init__(self, directory: str) -> None:
        """Begin a file in a directory, which is made if it does not exist.

        Raises:
          OSError: the file cannot be made.
          ImportError: the extra `load-test` is not installed.
        """
        import hdrh.histogram  # noqa: F401  fail here, not in the thread

        self.directory, self._host = directory, socket.gethostname()
        Path(directory).mkdir(parents=True, exist_ok=True)
        name = f"{self._host}-{os.getpid()}-{time.time_ns()}.jsonl"
        self._file: TextIO = (Path(directory) / name).open("x", encoding="utf-8")
        self._lock = threading.Lock()  # of the table of workers
        self._writing = threading.Lock()
        self._workers: list[WorkerClock] = []
        self._readers: dict[int, WorkerClock] = {}  # those of them that are readers, by slot
        self._local = threading.local()
        self._cpu_s, self._model_cpu = time.process_time(), ModelCpu()
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._write_often, daemon=True)
        self._thread.start()

    def begin(self, stage: str, *, is_idle: bool = False) -> None:
        """Begin a call in this thread. Within another call, that one pauses."""
        worker = self._enter()
        worker.settle(time.perf_counter(), time.thread_time())
        worker.frames.append(Frame(stage, is_idle))
        worker.lock.release()

    def end(self) -> None:
        """End the last call that this thread has begun."""
        worker: WorkerClock = self._local.worker
        with worker.lock:
            worker.settle(time.perf_counter(), time.thread_time())
            worker.end()

    def count(self, stage: str, rows: int) -> None:
        """Count rows that passed through a stage in this thread."""
        worker = self._enter()
        worker.stage(stage).rows += rows
        worker.lock.release()

    def leave(self) -> None:
        """Let other threads take the worker of this one, which has ended a bundle."""
        worker: WorkerClock | None = getattr(self._local, "worker", None)
        if worker is not None:
            with worker.lock:
                worker.is_free |= worker.thread is threading.current_thread()

    def work_as(self, slot: int) -> None:
        """Let this thread continue the worker of a reader, unless another one is within a call.

        A runner may run two readers in one bundle, and in other threads next time.
        """
        self.leave()
        with self._lock:
            reader = self._readers.get(slot)
            if reader is None:
                reader = self._readers[slot] = WorkerClock(len(self._workers))
                self._workers.append(reader)
            if reader.follow_here():
                self._local.worker = reader
                reader.lock.release()

    def _enter(self) -> WorkerClock:
        """Return the locked worker of this thread: its last one, a free one, or a new one."""
        last: WorkerClock | None = getattr(self._local, "worker", None)
        if last is not None and last.enter():
            return last
        with self._lock:
            threads = [worker for worker in self._workers if worker not in self._readers.values()]
            found = next((worker for worker in threads if worker.move_here()), None)
            if found is None:
                found = WorkerClock(len(self._workers))
                found.lock.acquire()
                self._workers.append(found)
            self._local.worker = found
            return found

    def _write_often(self) -> None:
        while not self._is_ended.wait(_EVERY_SECONDS):
            self.write()

    def write(self) -> None:
        """Append a line for each worker."""
        with self._writing:
            if self._file.closed:
                return
            at_s, now, cpu_s = time.time(), time.perf_counter(), time.process_time()
            threads_s, processes_s = self._model_cpu.take()
            with self._lock:  # a thread that only prepared readers is no worker
                readers = self._readers.values()
                workers = [w for w in self._workers if not readers or w in readers or w.stages]
            taken = [(worker, *worker.take(now)) for worker in workers]
            _share_out([stages for _, _, stages in taken], threads_s + processes_s)
            for worker, interval_s, stages in taken:
                line = {
                    "host": self._host,
                    "pid": os.getpid(),
                    "worker": worker.number,
                    "workers": len(workers),
                    "at_s": at_s,
                    "interval_s": interval_s,
                    "cpu_s": cpu_s - self._cpu_s + processes_s,
                    "rss_mb": _resident_mb(),
                    "stages": {name: _to_json(stage) for name, stage in stages.items()},
                }
                self._file.write(json.dumps(line) + "\n")
            self._cpu_s = cpu_s
            self._file.flush()

    def close(self) -> None:
        """Write the last lines, and end."""
        self._is_ended.set()
        self.write()
        with self._writing:
            self._file.close()


def _share_out(workers: Sequence[Mapping[str, Times]], cpu_s: float) -> None:
    """Make waiting for the model useful, as far as the model's own threads used a CPU.

    Workers share the seconds in proportion to their time in the stage, since they share threads.
    """
    stages = [stages[_PREDICT] for stages in workers if _PREDICT in stages]
    total = sum(stage.useful_s + stage.waiting_s for stage in stages)
    for stage in stages:
        share = cpu_s * (stage.useful_s + stage.waiting_s) / total if total else 0.0
        moved = min(stage.waiting_s, share)
        stage.useful_s += moved
        stage.waiting_s -= moved


def _to_json(stage: Times) -> dict[str, Any]:
    return {
        "useful_s": stage.useful_s,
        "waiting_s": stage.waiting_s,
        "idle_s": stage.idle_s,
        "rows": stage.rows,
        "calls": len(stage.calls_us),
        "longest_ms": max(stage.calls_us, default=0) / 1000,
        "histogram_us": _encode(stage.calls_us),
    }


def _encode(calls_us: Sequence[int]) -> str:
    if not calls_us:
        return ""
    histogram = make_histogram()
    for value, count in Counter(calls_us).items():
        histogram.record_value(min(max(value, 1), _MAX_US), count)
    return histogram.encode().decode()


def make_histogram() -> Any:
    """Return an empty HdrHistogram of microseconds."""
    from hdrh.histogram import HdrHistogram

    return HdrHistogram(1, _MAX_US, _DIGITS)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


# The recorder of this process, and the number of its users.
active: Recorder | None = None
_users = 0
_lock = threading.Lock()


def start(directory: str) -> None:
    """Start the recorder of this process, unless it runs; does nothing for "".

    A recorder with another directory ends first: it is of an earlier job in the same process.
    """
    global active, _users
    if not directory:
        return
    with _lock:
        if active is None or active.directory != directory:
            if active is not None:
                active.close()
            active, _users = Recorder(directory), 0
        _users += 1


def stop(directory: str) -> None:
    """End one use of the recorder; with the last one it writes its last lines, and ends."""
    global active, _users
    if not directory:
        return
    with _lock:
        if active is None or active.directory != directory:
            return
        _users -= 1
        if _users <= 0:
            active.close()
            active = None


@atexit.register
def _write_last() -> None:
    if active is not None:
        active.close()


def leave() -> None:
    """Note the end of a bundle in this thread; see `Recorder.leave`."""
    if active is not None:
        active.leave()


@contextmanager
def marked(stage: str, *, is_idle: bool = False) -> Iterator[None]:
    """Mark a block as a call of a stage, if a recorder runs.

    Args:
      stage: one of STAGES.
      is_idle: whether the block waits for records that are not there. It is no call of its own.
    """
    recorder = active
    if recorder is None:
        yield
        return
    recorder.begin(stage, is_idle=is_idle)
    try:
        yield
    finally:
        recorder.end()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSums:
    """The sums of one stage in one worker during a window.

    Attributes:
      useful_s, waiting_s, idle_s: its seconds; together its wall time.
      rows: rows that passed through it.
      calls: calls that ended within the window.
      longest_ms: the longest of them, also of what lay before the window.
      histogram_us: an HdrHistogram of their microseconds of wall time, without idle ones.
    """

    useful_s: float
    waiting_s: float
    idle_s: float
    rows: int
    calls: int
    longest_ms: float
    histogram_us: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSums:
    """The sums of one worker during a window.

    Attributes:
      host, pid: its process.
      worker: its number within the process, from 0.
      workers: the number of workers in the process.
      wall_s: seconds of the window in which it existed.
      cpu_s: CPU seconds of its process, divided by the workers in the process.
      rss_mb: the largest resident memory of its process, in MB (10^6 bytes).
      stages: its stages by name, in the order of STAGES.
    """

    host: str
    pid: int
    worker: int
    workers: int
    wall_s: float
    cpu_s: float
    rss_mb: float
    stages: Mapping[str, StageSums]

    @property
    def name(self) -> str:
        """A name that no other worker has."""
        return f"{self.host}:{self.pid}/{self.worker}"

    @property
    def idle_s(self) -> float:
        """Seconds in which it waited for records that were not there."""
        return sum(stage.idle_s for stage in self.stages.values())


def read_stage_times(directory: str, begin_s: float, end_s: float) -> list[WorkerSums]:
    """Return the sums of each worker within a window, by host, process and number.

    A line counts if the middle of its interval is within the window, so a window is exact to half
    a second at each end. A last line that a killed worker did not finish is left out.

    Args:
      directory: the folder that the workers write to; it may lack files yet.
      begin_s: the begin of the window, in seconds of `time.time`.
      end_s: its end.

    Raises:
      ValueError: a finished line is no line of a recorder.
    """
    found: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for path in sorted(Path(directory).glob("*.jsonl")):
        for line in _lines_of(path):
            if begin_s <= line["at_s"] - line["interval_s"] / 2 < end_s:
                key = (line["host"], line["pid"], line["worker"])
                found.setdefault(key, []).append(line)
    return [_add_up(lines) for _, lines in sorted(found.items())]


def _lines_of(path: Path) -> Iterator[dict[str, Any]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.split("\n")[:-1], 1):  # after the last newline: cut off
        try:
            yield json.loads(line)
        except ValueError as e:
            raise ValueError(
                f"expected a JSON object in line {number} of {path}, got {line[:80]!r}: {e}. "
                "Remove the file; something else has written to it"
            ) from e


def _add_up(lines: Sequence[Mapping[str, Any]]) -> WorkerSums:
    last = lines[-1]
    seen = {name for line in lines for name in line["stages"]}
    return WorkerSums(
        host=last["host"],
        pid=last["pid"],
        worker=last["worker"],
        workers=last["workers"],
        wall_s=sum(line["interval_s"] for line in lines),
        cpu_s=sum(line["cpu_s"] / line["workers"] for line in lines),
        rss_mb=max(line["rss_mb"] for line in lines),
        stages={
            name: _add_stages([line["stages"][name] for line in lines if name in line["stages"]])
            for name in sorted(seen, key=STAGES.index)
        },
    )


def _add_stages(parts: Sequence[Mapping[str, Any]]) -> StageSums:
    histogram = make_histogram()
    for part in parts:
        if part["histogram_us"]:
            histogram.decode_and_add(part["histogram_us"])
    return StageSums(
        useful_s=sum(part["useful_s"] for part in parts),
        waiting_s=sum(part["waiting_s"] for part in parts),
        idle_s=sum(part["idle_s"] for part in parts),
        rows=sum(part["rows"] for part in parts),
        calls=sum(part["calls"] for part in parts),
        longest_ms=max(part["longest_ms"] for part in parts),
        histogram_us=histogram,
    )
