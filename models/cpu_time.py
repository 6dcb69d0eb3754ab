"""CPU time that models use in threads and processes of their own.

TensorFlow's C API runs a graph in a pool of its own threads: the calling thread waits, and uses no
CPU. Those threads are `tf_Compute` and others whose names begin with `tf_`. The threads within an
op (Eigen's) have no name, because theirs is too long for Linux, so they are known by their birth:
they appear while a model is loaded. The same holds for LiteRT's threads. Linux only.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TASKS = Path("/proc/self/task")
_PREFIX = "tf_"

_lock = threading.Lock()
_unnamed: set[int] = set()  # threads without a name that appeared while a model was loaded
_processes: set[int] = set()


@contextmanager
def noting_model_threads() -> Iterator[None]:
    """Note the threads that appear within the block, which loads a model, as threads of models."""
    if not _TASKS.exists():
        yield
        return
    before = _threads()
    try:
        yield
    finally:
        python = {thread.native_id for thread in threading.enumerate()}
        own = _name_of(os.getpid())
        new = {task for task in _threads() - before - python if _name_of(task) == own}
        with _lock:
            _unnamed.update(new)


def note_model_process(pid: int) -> None:
    """Note a process that runs a model for this one; `forget_model_process` ends that."""
    with _lock:
        _processes.add(pid)


def forget_model_process(pid: int) -> None:
    """Forget a process of `note_model_process`, before or after its end."""
    with _lock:
        _processes.discard(pid)


class ModelCpu:
    """Adds up the CPU time of model threads and model processes."""

    def __init__(self) -> None:
        """Begin now: what was used before does not count."""
        self._used: dict[tuple[str, int], float] = {}
        self._named: set[int] = set()
        self.take()

    def take(self) -> tuple[float, float]:
        """Return the CPU seconds of threads, and of processes, since the last call."""
        with _lock:
            unnamed, processes = set(_unnamed), set(_processes)
        threads = {task for task in _threads() if task in unnamed or self._is_model(task)}
        return self._spent("thread", threads), self._spent("process", processes)

    def _is_model(self, task: int) -> bool:
        if task not in self._named and _name_of(task).startswith(_PREFIX):
            self._named.add(task)
        return task in self._named

    def _spent(self, kind: str, ids: set[int]) -> float:
        spent = 0.0
        for number in ids:
            with suppress(OSError):  # it has ended
                used = time.clock_gettime(_clock(number, is_thread=kind == "thread"))
                spent += max(0.0, used - self._used.get((kind, number), 0.0))
                self._used[kind, number] = used
        return spent


def thread_cpu_s(native_id: int) -> float | None:
    """Return the CPU seconds of a thread of this process; None if it has ended."""
    try:
        return time.clock_gettime(_clock(native_id, is_thread=True))
    except OSError:
        return None


def _clock(number: int, *, is_thread: bool) -> int:
    """Return the id of a CPU clock: `MAKE_THREAD_CPUCLOCK`, `MAKE_PROCESS_CPUCLOCK` of Linux."""
    scheduled, per_thread = 2, 4
    return ~number << 3 | scheduled | (per_thread if is_thread else 0)


def _threads() -> set[int]:
    return {int(name) for name in os.listdir(_TASKS)}


def _name_of(task: int) -> str:
    with suppress(OSError):
        return (_TASKS / str(task) / "comm").read_text().strip()
    return ""
