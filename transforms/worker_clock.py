"""The open calls of one worker, and its sums by stage: useful, waiting and idle seconds."""

from __future__ import annotations

import dataclasses
import threading
import time

from scoreline.models.cpu_time import thread_cpu_s


@dataclasses.dataclass
class Times:
    """Sums of one stage in one worker since the last line."""

    useful_s: float = 0.0
    waiting_s: float = 0.0
    idle_s: float = 0.0
    rows: int = 0
    calls_us: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Frame:
    """A call that has begun and not ended."""

    stage: str
    is_idle: bool
    seconds: float = 0.0


class WorkerClock:
    """The open calls and the sums of one worker."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.Lock()
        self.thread = threading.current_thread()
        self.native_id = threading.get_native_id()
        self.is_free = False  # between bundles
        self.frames: list[Frame] = []
        self.stages: dict[str, Times] = {}
        self.written_at = time.perf_counter()
        self._since = (0.0, 0.0)  # wall and CPU until which the open call is accounted for

    def enter(self) -> bool:
        """Lock it if this thread still has it; return whether it does."""
        self.lock.acquire()
        if self.thread is threading.current_thread():
            self.is_free = False
            return True
        self.lock.release()
        return False

    def move_here(self) -> bool:
        """Lock it and continue in this thread if no other has it; return whether it does."""
        self.lock.acquire()
        if self.is_free or not self.thread.is_alive():
            self.frames.clear()
            self.is_free = False
            self.thread, self.native_id = threading.current_thread(), threading.get_native_id()
            return True
        self.lock.release()
        return False

    def follow_here(self) -> bool:
        """Lock it and continue in this thread, unless another one is within a call."""
        self.lock.acquire()
        if self.thread is not threading.current_thread():
            if self.frames and self.thread.is_alive():
                self.lock.release()
                return False
            self.frames.clear()
            self.thread, self.native_id = threading.current_thread(), threading.get_native_id()
        self.is_free = False
        return True

    def settle(self, now: float, cpu: float) -> None:
        """Add the time since the last call of this method to the innermost open call."""
        began, cpu_began = self._since
        self._since = (now, cpu)
        if not self.frames:
            return
        frame = self.frames[-1]
        wall = now - began
        useful = min(max(cpu - cpu_began, 0.0), wall)
        stage = self.stage(frame.stage)
        stage.useful_s += useful
        if frame.is_idle:
            stage.idle_s += wall - useful
        else:
            stage.waiting_s += wall - useful
            frame.seconds += wall

    def stage(self, name: str) -> Times:
        """Return the sums of a stage."""
        found = self.stages.get(name)
        if found is None:
            found = self.stages[name] = Times()
        return found

    def end(self) -> None:
        """End the innermost call."""
        frame = self.frames.pop()
        if not frame.is_idle:
            self.stage(frame.stage).calls_us.append(round(frame.seconds * 1e6))

    def take(self, now: float) -> tuple[float, dict[str, Times]]:
        """Return the seconds and the sums since the last line, with those of open calls."""
        with self.lock:
            cpu = thread_cpu_s(self.native_id)
            if cpu is not None:
                self.settle(max(now, self._since[0]), cpu)
            stages, self.stages = self.stages, {}
            interval, self.written_at = now - self.written_at, now
            return interval, stages
