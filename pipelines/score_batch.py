"""Score partitions of a dataset with a TensorFlow model into a Delta table.

    scoreline batch --input … --model … --keys … --output …

Exit codes: 0 every row is scored and published (or nothing was left to do); 1 a partition could not
be published, or the job failed; 2 options, dataset, model or table are wrong, found before the
first row; 3 all is published, and some rows are dead letters; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
import uuid
from collections.abc import Sequence
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.runner import PipelineResult
from rich.console import Console

from scoreline import __version__
from scoreline.lake.elements import Outcome
from scoreline.lake.files.read import DatasetSpec
from scoreline.lake.kill_points import reach
from scoreline.lake.table.commit import CommitSpec
from scoreline.lake.table.outcomes import record_outcomes, take_outcomes
from scoreline.lake.table.scores import create_table
from scoreline.lake.table.shard_writer import StageSpec
from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_STOPPED
from scoreline.pipelines.options.batch import BatchScoringSettings, make_parser
from scoreline.pipelines.options.problems import BadOptions
from scoreline.pipelines.options.runner import add_runner_flags
from scoreline.pipelines.plan.batch import Plan, Work, make_plan
from scoreline.pipelines.plan.preview import score_first_rows
from scoreline.pipelines.plan.signature import read_signature
from scoreline.pipelines.report.console import make_console, say
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.pipelines.report.preview import print_first_scores
from scoreline.pipelines.report.progress import show_progress
from scoreline.pipelines.report.summary import (
    Report,
    print_failures,
    print_nothing_left,
    print_plan,
    print_report,
)
from scoreline.pipelines.runners.job_name import name_batch
from scoreline.pipelines.runners.runner import Runner, choose_runner
from scoreline.transforms import metrics
from scoreline.transforms.commit import CommitPartitions
from scoreline.transforms.outcomes import WriteOutcomes
from scoreline.transforms.read import MatchShards, ReadRecordBatches
from scoreline.transforms.resume import SkipStaged
from scoreline.transforms.score import Score
from scoreline.transforms.stage import StageDeadLetters, StageScores

_USAGE = "scoreline batch --input PATH --model PATH --keys C,… --output PATH [options]"
_MAX_REASON = 2000


def build(
    pipeline: beam.Pipeline,
    settings: BatchScoringSettings,
    plan: Plan,
    work: Work,
    job_id: str,
) -> beam.PCollection[Outcome]:
    """Add the steps of a batch scoring job to a pipeline, and return its outcomes.

    SkipStaged, ReadRecordBatches, Score and the two Stage steps fuse to one stage on every runner;
    rows are never shuffled. Outcomes are also written for the launcher, under the job id.
    """
    found = (
        pipeline
        | "MatchShards" >> MatchShards(shards=work.shards)
        | "SkipStaged" >> SkipStaged(output=settings.output)
    )
    batches = found.shards | "ReadRecordBatches" >> ReadRecordBatches(
        dataset=DatasetSpec(
            root=settings.input,
            format=work.format,
            columns=work.columns,
            top_columns=work.top_columns,
            batch_rows=work.batch_rows,
            dictionary_columns=work.dictionary_columns,
            schema=work.input_schema,
            constants=work.constants,
            limits=settings.limits,
        )
    )
    scored = batches | "Score" >> Score(spec=work.score)
    receipts = scored.scores | "StageScores" >> StageScores(
        spec=StageSpec(settings.output, work.schema, work.keys, work.integer_key)
    )
    dead_receipts = scored.dead_letters | "StageDeadLetters" >> StageDeadLetters(
        output=settings.output
    )
    outcomes = (
        (receipts, dead_receipts, found.receipts)
        | "MergeReceipts" >> beam.Flatten()
        | "CommitPartitions" >> CommitPartitions(spec=_commit_spec(settings, plan, work, job_id))
    )
    _ = outcomes | "WriteOutcomes" >> WriteOutcomes(output=settings.output, job_id=job_id)
    return outcomes


def _commit_spec(settings: BatchScoringSettings, plan: Plan, work: Work, job_id: str) -> CommitSpec:
    paths = set(work.partitions)
    version = {} if plan.input_version is None else {"input_version": str(plan.input_version)}
    return CommitSpec(
        output=settings.output,
        keys=work.keys,
        metadata={
            "model_digest": plan.digest,
            "signature": settings.signature,
            "tool_version": __version__,
            "job_id": job_id,
            **version,
        },
        fingerprints={p.path: p.fingerprint for p in plan.selected if p.path in paths},
        max_dead_letter_ratio=settings.max_dead_letter_ratio,
    )


def run(
    settings: BatchScoringSettings,
    plan: Plan,
    work: Work,
    runner: Runner,
    console: Console,
) -> Report:
    """Score what the plan says, showing progress, and return what came of it.

    Raises:
      OSError: the table cannot be created.
      Exception: whatever the runner raises when the job as a whole fails.
    """
    reach("planned")
    create_table(settings.output, work.schema, plan.partition_columns)
    job_id = uuid.uuid4().hex
    began = time.perf_counter()
    name = name_batch(runner.options, work.partitions, plan.digest, job_id)
    pipeline = runner.make_pipeline(settings.workers)
    build(pipeline, settings, plan, work, job_id)
    with show_progress(work, settings.output, console):
        result = runner.run(pipeline, name, lambda text: say(console, text), endless=False)
    seconds = time.perf_counter() - began
    reach("job_done")
    outcomes = take_outcomes(settings.output, job_id)
    silent = set(work.partitions) - {outcome.partition for outcome in outcomes}
    lost = [Outcome(path, "", "failed", reason="the job ended without it") for path in silent]
    record_outcomes(settings.output, [*outcomes, *lost, *plan.failed])
    return Report(
        outcomes=sorted([*outcomes, *lost, *plan.failed]),
        seconds=seconds,
        counters=read_counters(result),
    )


def read_counters(result: PipelineResult) -> dict[str, int]:
    """Return our counters of a job that ended, by name."""
    counters: dict[str, int] = {}
    query = MetricsFilter().with_namespace(metrics.NAMESPACE)
    for counter in result.metrics().query(query)["counters"]:
        value = counter.committed if counter.committed is not None else counter.attempted
        counters[counter.key.metric.name] = counters.get(counter.key.metric.name, 0) + value
    return counters


def parse_arguments(argv: Sequence[str]) -> Runner:
    """Return the runner of a command line, with its options; with `--help`, print them and exit."""
    parser = make_parser(_USAGE, __doc__)
    add_runner_flags(parser)
    parser.parse_known_args(argv)
    return choose_runner(argv)


def read_settings(runner: Runner) -> BatchScoringSettings:
    """Return checked settings, and have the runner's options completed for its cluster.

    Raises:
      BadOptions: options are wrong, or the cluster is not there; lists all of it.
    """
    problems = runner.find_problems()
    placement = runner.place(problems)
    settings = BatchScoringSettings.from_options(runner.options, problems)
    settings = dataclasses.replace(
        settings, input=runner.locate(settings.input), output=runner.locate(settings.output)
    )
    if placement is None:
        return settings
    return dataclasses.replace(
        settings, workers=placement.slots, calls_per_process=placement.concurrent_calls
    )


class Ended(NamedTuple):
    """How a command ended: its exit code, and the report when anything was scored."""

    exit_code: int
    report: Report | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    set_up_logs()
    given = sys.argv[1:] if argv is None else argv
    return execute(given, make_console(), make_console(stderr=True)).exit_code


def execute(argv: Sequence[str], console: Console, errors: Console) -> Ended:
    """Check, plan, score and report, as the command line says."""
    runner = parse_arguments(argv)
    in_process = runner.shares_process
    try:
        settings = read_settings(runner)
        plan = make_plan(settings, lambda s, d: read_signature(s, d, in_process=in_process))
    except BadOptions as e:
        print_problems(e.problems, errors)
        return Ended(e.exit_code)
    if plan.work is None or settings.check:
        if plan.work is not None:
            return Ended(_check(plan, plan.work, settings, console, errors))
        if plan.committed or not plan.failed:
            print_nothing_left(plan, settings, console)
        print_failures(plan.failed, errors)
        if plan.failed and plan.has_table and not settings.check:
            record_outcomes(settings.output, plan.failed)
        return Ended(EXIT_FAILED if plan.failed else EXIT_OK)
    try:
        report = run(settings, plan, plan.work, runner, console)
    except KeyboardInterrupt:
        errors.print("Stopped. What is committed stays; run the same command to go on.")
        return Ended(EXIT_STOPPED)
    except Exception as e:  # noqa: BLE001  a runner may raise anything; the exit code must tell
        errors.print(f"The job failed: {root_cause(e)}", highlight=False, markup=False)
        errors.print("Partitions that are committed stay; run the same command to go on.")
        return Ended(EXIT_FAILED)
    print_report(report, settings, console)
    return Ended(report.exit_code, report)


def _check(
    plan: Plan,
    work: Work,
    settings: BatchScoringSettings,
    console: Console,
    errors: Console,
) -> int:
    """Show what would be done, and what the model says of the first rows."""
    print_plan(plan, work, settings, console)
    print_failures(plan.failed, errors)
    try:
        with contextlib.closing(work.score.load()) as model:
            found = score_first_rows(model, settings)
    except BadOptions as e:
        print_problems(e.problems, errors)
        return e.exit_code
    print_first_scores(found, console)
    return EXIT_FAILED if plan.failed or found.failure else EXIT_OK


def print_problems(problems: Sequence[str], errors: Console) -> None:
    """Say everything that is wrong with a command line."""
    if len(problems) > 1:
        errors.print(f"{len(problems)} things are wrong:", highlight=False)
    for problem in problems:
        say(errors, problem)


def root_cause(error: BaseException) -> str:
    """Return the first error of a chain, cut to what a reader will read."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= _MAX_REASON else "… " + text[-_MAX_REASON:]


if __name__ == "__main__":
    sys.exit(main())
