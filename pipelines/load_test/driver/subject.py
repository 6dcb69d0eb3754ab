"""The process that runs the pipeline under test: the shipped command, with its stages measured.

    python -m scoreline.pipelines.load_test.driver.subject FOLDER

FOLDER has `subject.json`. The process writes `facts.json`: of a stream when its plan is made, of a
batch at its end.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scoreline.models.hiding import keep_pandas_out
from scoreline.pipelines.load_test.driver.child import end_with_driver
from scoreline.transforms.worker.lean_beam import import_beam

if TYPE_CHECKING:
    from scoreline.pipelines.plan.batch import BatchPlan
    from scoreline.pipelines.plan.stream import StreamPlan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A command to run.

    Attributes:
      command: stream or batch.
      argv: its flags.
      stage_times: folder for the times of stages, which workers write.
      replaced: the stage to replace by one that does nothing; "" for none.
    """

    command: str
    argv: tuple[str, ...]
    stage_times: str
    replaced: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What the plan of a stream, or the report of a batch, says.

    Attributes:
      model_digest: the model's digest.
      commit_s: of a stream, seconds between two commits of offsets.
      rows, rows_dead: of a batch, its rows, and those of them that are dead letters.
      partitions: of a batch, its published partitions.
    """

    model_digest: str
    commit_s: float = 0.0
    rows: int = 0
    rows_dead: int = 0
    partitions: int = 0


def measure_stream(plan: StreamPlan, subject: Subject) -> StreamPlan:
    """Return a plan whose stages are measured, and whose replaced stage does nothing."""
    from scoreline.pipelines.plan.null_stage import without_stage

    read = dataclasses.replace(plan.read, stage_times=subject.stage_times)
    plan = dataclasses.replace(plan, read=read)
    return without_stage(plan, subject.replaced) if subject.replaced else plan


def measure_batch(plan: BatchPlan, subject: Subject) -> BatchPlan:
    """Return a plan whose stages are measured, and whose replaced stage does nothing."""
    from scoreline.pipelines.plan.null_stage import without_stage

    read = plan.read._replace(stage_times=subject.stage_times)
    commit = plan.commit._replace(stage_times=subject.stage_times)
    plan = dataclasses.replace(plan, read=read, commit=commit)
    return without_stage(plan, subject.replaced) if subject.replaced else plan


def tell_facts(folder: Path, facts: Facts) -> None:
    """Write facts at once."""
    partial = folder / f"facts.{os.getpid()}"
    partial.write_text(json.dumps(dataclasses.asdict(facts)))
    partial.rename(folder / "facts.json")


def read_facts(folder: Path) -> Facts | None:
    """Return the facts of a folder; None if there are none yet."""
    try:
        return Facts(**json.loads((folder / "facts.json").read_text()))
    except FileNotFoundError:
        return None


def run_stream(folder: Path, subject: Subject) -> int:
    """Run a stream until it is stopped, and return its exit code."""
    from scoreline.pipelines.load_test.driver.model_alone import write_specs
    from scoreline.pipelines.report.reporter import make_reporter
    from scoreline.pipelines.score_stream import execute

    def adapt(plan: StreamPlan) -> StreamPlan:
        facts = Facts(model_digest=plan.score.digest, commit_s=plan.read.bundle_seconds)
        write_specs(folder, plan.decode, plan.score)
        measured = measure_stream(plan, subject)
        tell_facts(folder, facts)
        return measured

    return execute(subject.argv, make_reporter("stream", subject.argv), adapt)


def run_batch(folder: Path, subject: Subject) -> int:
    """Run a batch to its end, and return its exit code."""
    from scoreline.pipelines.report.reporter import make_reporter
    from scoreline.pipelines.score_batch import execute

    digest = ""

    def adapt(plan: BatchPlan) -> BatchPlan:
        nonlocal digest
        digest = plan.score.digest
        return measure_batch(plan, subject)

    ended = execute(subject.argv, make_reporter("batch", subject.argv), adapt)
    if ended.report is not None:
        outcomes = ended.report.outcomes
        facts = Facts(
            model_digest=digest,
            rows=sum(outcome.rows_in for outcome in outcomes),
            rows_dead=sum(outcome.rows_dead for outcome in outcomes),
            partitions=len(outcomes),
        )
        tell_facts(folder, facts)
    return ended.exit_code


def main() -> int:
    """Run the subject of a folder."""
    end_with_driver()
    folder = Path(sys.argv[1])
    given = json.loads((folder / "subject.json").read_text())
    subject = Subject(**{**given, "argv": tuple(given["argv"])})
    keep_pandas_out()
    import_beam()
    from scoreline.pipelines.report.logs import set_up_logs

    set_up_logs()
    run = {"stream": run_stream, "batch": run_batch}[subject.command]
    return run(folder, subject)


if __name__ == "__main__":
    sys.exit(main())
