"""A bar on the terminal, or a line now and then in a log, while a job stages its shards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipelines.plan import Work
from transforms.io.filesystems import list_folder, resolve
from transforms.io.parquet import safe_folder

_TERMINAL_SECONDS = 0.5
_LOG_SECONDS = 30.0


@contextmanager
def show_progress(work: Work, output: str, console: Console) -> Iterator[None]:
    """Show how many rows are staged, until the with block ends.

    What is done is read off the staged files, so it works the same for every runner.
    """
    seen = _StagedRows(work, output)
    stop = threading.Event()
    if not console.is_terminal:
        watcher = threading.Thread(target=_log, args=(seen, stop, console), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
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

        def watch() -> None:
            while not stop.wait(_TERMINAL_SECONDS):
                bar.update(task, completed=seen.count())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()


def _log(seen: _StagedRows, stop: threading.Event, console: Console) -> None:
    while not stop.wait(_LOG_SECONDS):
        rows = seen.count()
        console.print(f"staged {rows:,} of {seen.total:,} rows", highlight=False)


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
