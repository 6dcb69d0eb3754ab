"""A bar on the terminal, or a line now and then in a log, while a job stages its shards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipelines.plan import Work
from transforms.io.filesystems import list_folder, resolve
from transforms.io.layout import safe_folder

_TERMINAL_SECONDS = 0.5
_LOG_SECONDS = 30.0


@contextmanager
def show_progress(work: Work, output: str, console: Console) -> Iterator[None]:
    """Show how many rows are staged, until the with block ends.

    What is done is read off the staged files, so it works the same for every runner.
    """
    seen = _StagedRows(work, output)
    if not console.is_terminal:

        def log() -> None:
            console.print(f"staged {seen.count():,} of {seen.total:,} rows", highlight=False)

        with _repeated(log, _LOG_SECONDS):
            yield
        return
    with Progress(
        TextColumn("scoring"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("scoring", total=max(work.rows, 1))
        with _repeated(lambda: bar.update(task, completed=seen.count()), _TERMINAL_SECONDS):
            yield


@contextmanager
def _repeated(show: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call a function every so many seconds, in a thread, until the with block ends."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(seconds):
            show()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


class _StagedRows:
    """Counts the rows of the shards whose files are there."""

    def __init__(self, work: Work, output: str) -> None:
        self.total = work.rows
        self._fs, self._root = resolve(output)
        self._missing: dict[str, dict[str, int]] = {}
        for shard in work.shards:
            prefix = f"part-{shard.number:05d}-{shard.run_id}-"
            self._missing.setdefault(safe_folder(shard.partition), {})[prefix] = shard.rows
        self._rows = 0

    def count(self) -> int:
        for folder, prefixes in list(self._missing.items()):
            for info in list_folder(self._fs, f"{self._root}/{folder}"):
                self._rows += prefixes.pop(info.base_name[: len("part-00000-") + 16], 0)
            if not prefixes:
                del self._missing[folder]
        return self._rows
