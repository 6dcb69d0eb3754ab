"""Progress of a job while it stages shards: a bar on a terminal, or lines in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from scoreline.lake.elements import UNKNOWN_ROWS, Shard
from scoreline.lake.storage import list_folder, resolve
from scoreline.lake.table.layout import partition_folder, shard_in
from scoreline.pipelines.plan.batch import BatchPlan

_TERMINAL_SECONDS = 0.5
_LOG_SECONDS = 30.0
# Maximum share of time for polling: on a bucket, ten thousand folders take minutes.
_LOOKING = 0.1


@contextmanager
def show_progress(plan: BatchPlan, console: Console) -> Iterator[None]:
    """Show the number of staged rows until the with block ends; shards if rows are not known.

    The count comes from the staged files, so it works the same on every runner.
    """
    seen = StagedShards(plan.shards, plan.stage.output)
    if not console.is_terminal:

        def log() -> None:
            console.print(f"staged {seen.count():,} of {seen.total:,} {seen.unit}", highlight=False)

        with _repeated(log, _LOG_SECONDS):
            yield
        return
    with Progress(
        TextColumn("scoring"),
        BarColumn(),
        TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {seen.unit}"),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("scoring", total=max(seen.total, 1))
        with _repeated(lambda: bar.update(task, completed=seen.count()), _TERMINAL_SECONDS):
            yield


@contextmanager
def _repeated(show: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call a function periodically in a thread until the with block ends."""
    stop = threading.Event()

    def watch() -> None:
        took = 0.0
        while not stop.wait(pause_after(took, seconds)):
            began = time.monotonic()
            show()
            took = time.monotonic() - began

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def pause_after(took_s: float, seconds: float) -> float:
    """Return the pause before the next poll, from the time of the last one."""
    return max(seconds, took_s / _LOOKING)


class StagedShards:
    """Counts the shards whose files are staged, or their rows if the plan has counted them."""

    def __init__(self, shards: Sequence[Shard], output: str) -> None:
        are_known = all(shard.rows != UNKNOWN_ROWS for shard in shards)
        self.unit = "rows" if are_known else "shards"
        self.total = sum(shard.rows for shard in shards) if are_known else len(shards)
        self._fs, self._root = resolve(output)
        self._missing: dict[str, dict[tuple[int, str], int]] = {}
        for shard in shards:
            weights = self._missing.setdefault(partition_folder(shard.partition), {})
            weights[shard.number, shard.run_id] = shard.rows if are_known else 1
        self._count = 0

    def count(self) -> int:
        """Poll for staged files, and return the number of staged shards or rows."""
        for folder, weights in list(self._missing.items()):
            for info in list_folder(self._fs, f"{self._root}/{folder}"):
                shard = shard_in(info.base_name)
                if shard is not None:
                    self._count += weights.pop(shard, 0)
            if not weights:
                del self._missing[folder]
        return self._count
