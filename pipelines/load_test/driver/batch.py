"""Drives a batch: runs the whole command on datasets of several volumes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

from scoreline.lake.files.partitions import Partition
from scoreline.pipelines.load_test.driver.child import Child
from scoreline.pipelines.load_test.driver.machine import Machine, Use
from scoreline.pipelines.load_test.driver.subject import Facts, Subject, read_facts
from scoreline.pipelines.load_test.driver.volumes import make_volume
from scoreline.pipelines.load_test.driver.worker_times import to_worker_times
from scoreline.pipelines.load_test.judge.elements import WorkerTimes
from scoreline.pipelines.options.problems import BadOptions
from scoreline.transforms.stage_times import read_stage_times

_MAX_RUN_S = 6 * 3600.0
# Nothing is published, all rows are scored, some rows are dead letters.
_EXITS = (1, 0, 3)
# Without these stages a batch cannot publish its partitions.
_UNPUBLISHED = ("stage", "commit")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchSubject:
    """A batch to load, without its input and its table.

    Attributes:
      root: the dataset.
      partitions: the partitions that are volume 1.
      argv: flags of `scoreline batch`, without input, output, partitions and workers.
    """

    root: str
    partitions: tuple[Partition, ...]
    argv: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchRun:
    """One run of the whole command.

    Attributes:
      factor: its multiple of volume 1.
      workers: number of workers.
      facts: what the command reported.
      wall_s: from its start to its end.
      cpu_s: CPU seconds of the command and its children; on a cluster, also of the workers.
      worker_times: what each worker did.
      use: the use of the machine meanwhile.
      replaced: the stage that was replaced by one that does nothing; "" for none.
    """

    factor: int
    workers: int
    facts: Facts
    wall_s: float
    cpu_s: float
    worker_times: tuple[WorkerTimes, ...]
    use: Use
    replaced: str = ""

    @property
    def peak_rss_mb(self) -> float:
        """Largest resident memory of the command and its children."""
        return float(self.use.memory_mb.max(initial=0.0))


class BatchDriver:
    """Runs a batch on volumes of its input, each time into a new table.

    Use it as a context: at its end no process runs, and tables and volumes are removed.
    """

    def __init__(self, subject: BatchSubject, folder: Path) -> None:
        """Start nothing yet.

        Args:
          subject: the batch.
          folder: a folder for its files.
        """
        self._subject, self._folder = subject, folder
        self._number = 0
        self._child: Child | None = None
        self._machine = Machine()

    def __enter__(self) -> BatchDriver:
        """Start to watch the machine."""
        self._machine.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything, and remove volumes and tables."""
        try:
            if self._child is not None:
                self._child.end()
        finally:
            self._machine.stop()
            for left in ("volumes", *(f"run-{n}/scores" for n in range(1, self._number + 1))):
                shutil.rmtree(self._folder / left, ignore_errors=True)

    def run(self, factor: int, *, workers: int, replaced: str = "") -> BatchRun:
        """Run the command on a volume.

        Args:
          factor: copies of the input.
          workers: number of workers.
          replaced: the stage to replace by one that does nothing.

        Raises:
          BadOptions: the command refuses its options, its input or its model, or it fails.
        """
        self._number += 1
        at, volume = self._folder / f"run-{self._number}", self._folder / "volumes" / str(factor)
        (at / "stages").mkdir(parents=True)
        if not volume.exists():
            make_volume(self._subject.root, self._subject.partitions, factor, volume)
        flags = (f"--input={volume}", f"--output={at / 'scores'}", f"--workers={workers}")
        run = Subject(
            command="batch",
            argv=(*self._subject.argv, *flags),
            stage_times=str(at / "stages"),
            replaced=replaced,
        )
        (at / "subject.json").write_text(json.dumps(dataclasses.asdict(run)))
        begin_s = time.time()
        self._child = child = Child("subject", at, "the batch")
        self._machine.set_workers([child.pid])
        code, cpu_s = child.wait_and_measure(_MAX_RUN_S)
        end_s = time.time()
        facts = read_facts(at)
        expected = _EXITS if replaced in _UNPUBLISHED else _EXITS[1:]
        if facts is None or code not in expected:
            raise BadOptions([f"batch: {child.last_words()}"])
        found = read_stage_times(str(at / "stages"), begin_s, end_s + 1)
        return BatchRun(
            factor=factor,
            workers=workers,
            facts=facts,
            wall_s=end_s - begin_s,
            cpu_s=cpu_s,
            worker_times=tuple(to_worker_times(worker) for worker in found),
            use=self._machine.use(begin_s, end_s),
            replaced=replaced,
        )
