"""Score partitions of a dataset with a TensorFlow model into a Delta table: the job."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.runner import PipelineResult
from rich.console import Console

from scoreline.lake.elements import Outcome
from scoreline.lake.kill_points import reach
from scoreline.lake.table.outcomes import record_outcomes, take_outcomes
from scoreline.lake.table.scores import create_table
from scoreline.models.servable import Servable
from scoreline.pipelines.doing import doing
from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_STOPPED
from scoreline.pipelines.options.batch import BatchSettings, read_batch
from scoreline.pipelines.options.commands import make_parser, parse_flags
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.plan.batch import BatchPlan, Findings, make_plan
from scoreline.pipelines.plan.model import PlannedModel
from scoreline.pipelines.plan.preview import first_rows_of, score_first_rows
from scoreline.pipelines.plan.purity import check_plan, describe_allowed
from scoreline.pipelines.report.console import say
from scoreline.pipelines.report.documents import batch_fields, plan_fields
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.pipelines.report.preview import print_first_scores
from scoreline.pipelines.report.progress import show_progress
from scoreline.pipelines.report.reporter import Reporter, make_reporter
from scoreline.pipelines.report.summary import (
    Report,
    describe_failure,
    print_failures,
    print_nothing_left,
    print_passed_over,
    print_plan,
    print_report,
)
from scoreline.pipelines.report.unexpected import end_failed_job
from scoreline.pipelines.runners.job_name import name_batch
from scoreline.pipelines.runners.runner import Runner, choose_runner
from scoreline.transforms import metrics
from scoreline.transforms.commit import CommitPartitions
from scoreline.transforms.outcomes import WriteOutcomes
from scoreline.transforms.read import MatchShards, ReadRecordBatches
from scoreline.transforms.resume import SkipStaged
from scoreline.transforms.score import Score
from scoreline.transforms.stage import StageDeadLetters, StageScores


def build(pipeline: beam.Pipeline, plan: BatchPlan) -> beam.PCollection[Outcome]:
    """Add the steps of a batch scoring job to a pipeline, and return its outcomes.

    SkipStaged, ReadRecordBatches, Score and the two Stage steps fuse to one stage on every runner;
    rows are never shuffled. Outcomes are also written for the launcher, under the job id.
    """
    output = plan.stage.output
    found = (
        pipeline
        | "MatchShards" >> MatchShards(shards=plan.shards)
        | "SkipStaged" >> SkipStaged(output=output)
    )
    scored = (
        found.shards
        | "ReadRecordBatches" >> ReadRecordBatches(dataset=plan.read)
        | "Score" >> Score(spec=plan.score)
    )
    receipts = scored.scores | "StageScores" >> StageScores(spec=plan.stage)
    dead_receipts = scored.dead_letters | "StageDeadLetters" >> StageDeadLetters(output=output)
    outcomes = (
        (receipts, dead_receipts, found.receipts)
        | "MergeReceipts" >> beam.Flatten()
        | "CommitPartitions" >> CommitPartitions(spec=plan.commit)
    )
    _ = outcomes | "WriteOutcomes" >> WriteOutcomes(output=output, job_id=plan.job_id)
    return outcomes


def run(
    plan: BatchPlan, failed: Sequence[Outcome], runner: Runner, workers: int, console: Console
) -> Report:
    """Run a plan, show progress, and return the report.

    Args:
      plan: the plan of the job.
      failed: outcomes of partitions that cannot be started; they are recorded too.
      runner: the runner.
      workers: number of parallel workers.
      console: the console for progress.

    Raises:
      OSError: the table cannot be created.
      Exception: the runner's exception if the whole job fails.
    """
    output = plan.stage.output
    reach("planned")
    create_table(output, plan.stage.schema, plan.commit.partition_columns)
    began = time.perf_counter()
    name = name_batch(runner.options, plan.partitions, plan.score.digest, plan.job_id)
    pipeline = runner.make_pipeline(workers)
    build(pipeline, plan)
    with show_progress(plan, console):
        result = runner.run(pipeline, name, lambda text: say(console, text), endless=False)
    reach("job_done")
    seconds = time.perf_counter() - began
    outcomes = take_outcomes(output, plan.job_id)
    silent = set(plan.partitions) - {outcome.partition for outcome in outcomes}
    lost = [Outcome(path, "", "failed", reason="the job ended without it") for path in silent]
    everything = sorted([*outcomes, *lost, *failed])
    record_outcomes(output, everything)
    return Report(outcomes=everything, seconds=seconds, counters=read_counters(result))


def read_counters(result: PipelineResult) -> dict[str, int]:
    """Return our counters of a finished job, by name."""
    counters: dict[str, int] = {}
    query = MetricsFilter().with_namespace(metrics.NAMESPACE)
    for counter in result.metrics().query(query)["counters"]:
        value = counter.committed if counter.committed is not None else counter.attempted
        counters[counter.key.metric.name] = counters.get(counter.key.metric.name, 0) + value
    return counters


class Ended(NamedTuple):
    """The result of a command: its exit code, and the report if a job ran."""

    exit_code: int
    report: Report | None = None


class Prepared(NamedTuple):
    """A parsed command line, with its runner and its settings.

    The model is the planned one; close it before the job runs.
    """

    settings: BatchSettings
    runner: Runner
    found: Findings
    model: PlannedModel


def prepare(argv: Sequence[str]) -> Prepared:
    """Parse a command line, and check everything that can be checked before the first row.

    Raises:
      BadOptions: lists all problems.
    """
    problems = Problems()
    given, others = parse_flags("batch", argv, problems)
    settings = read_batch(given, problems)
    if not others:  # Beam must check the other flags
        problems.check_usage()
    runner = choose_runner(others)
    for problem in runner.find_problems(make_parser("batch").flags):
        problems.add_usage(problem)
    problems.check_usage()
    settings = _place(settings, runner, problems)
    model = PlannedModel(here=runner.shares_process)
    with contextlib.ExitStack() as failing:
        failing.callback(model.close)
        found = make_plan(settings, model.read_signature, problems)
        if model.servable is not None:
            with doing("checking the model on the first rows"):
                found = check_plan(found, model.servable, settings.model.allow_impure, problems)
        found = dataclasses.replace(found, runtime=model.runtime)
        failing.pop_all()
    return Prepared(settings, runner, found, model)


def _place(settings: BatchSettings, runner: Runner, problems: Problems) -> BatchSettings:
    """Return settings with the paths that the runner's workers see."""
    placement = runner.place(problems)
    dataset = dataclasses.replace(settings.dataset, root=runner.locate(settings.dataset.root))
    table = dataclasses.replace(settings.table, output=runner.locate(settings.table.output))
    settings = dataclasses.replace(settings, dataset=dataset, table=table)
    if placement is None:
        return settings
    return dataclasses.replace(
        settings, workers=placement.slots, concurrent_calls=placement.concurrent_calls
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    set_up_logs()
    given = sys.argv[1:] if argv is None else argv
    return execute(given, make_reporter("batch", given)).exit_code


def execute(
    argv: Sequence[str],
    reporter: Reporter,
    adapt: Callable[[BatchPlan], BatchPlan] = lambda plan: plan,
) -> Ended:
    """Check, plan, score and report.

    Args:
      argv: the flags.
      reporter: prints what happens.
      adapt: returns the plan to run; a load test measures its stages, or replaces one.
    """
    try:
        with doing("planning the job"):
            settings, runner, found, model = prepare(argv)
    except BadOptions as e:
        return Ended(reporter.end(e.exit_code, problems=e.problems))
    plan, failed = found.plan, found.states.failed
    if found.passed_over:
        reporter.show(lambda console: print_passed_over(found.passed_over, console))
    with contextlib.closing(model):
        if plan is None or model.servable is None:  # what has a plan has a model
            return Ended(_end_without_work(settings, found, reporter))
        if settings.check:
            return Ended(_check(settings, found, plan, model.servable, reporter))
    try:
        report = run(adapt(plan), failed, runner, settings.workers, reporter.console)
    except KeyboardInterrupt:
        problem = "Stopped. Committed partitions stay; run the same command to continue."
        return Ended(reporter.end(EXIT_STOPPED, problems=[problem]))
    except Exception as e:  # noqa: BLE001  a runner may raise anything; it sets the exit code
        advice = "Committed partitions stay; run the same command to continue."
        return Ended(end_failed_job(reporter, e, advice))
    report = dataclasses.replace(
        report,
        impurity=describe_allowed(found, plan),
        runtime=found.runtime,
        choice=plan.score.model.choice,
    )
    with doing("reporting the results; the scores are published"):
        reporter.show(lambda console: print_report(report, settings, console))
        fields = batch_fields(settings, found, report)
    return Ended(reporter.end(report.exit_code, fields), report)


def _end_without_work(settings: BatchSettings, found: Findings, reporter: Reporter) -> int:
    """Report why nothing is left to do, and record partitions that failed before their start."""
    states = found.states
    if states.committed or not states.failed:
        reporter.show(lambda console: print_nothing_left(states, settings, console))
    print_failures(states.failed, reporter.errors)
    if states.failed and found.has_table and not settings.check:
        record_outcomes(settings.table.output, states.failed)
    code = EXIT_FAILED if states.failed else EXIT_OK
    if not settings.check:
        return reporter.end(code, batch_fields(settings, found))
    fields = {"output": settings.table.output, "partitions": []}
    problems = [describe_failure(outcome) for outcome in states.failed]
    committed = len(states.committed)
    return reporter.end(code, {**fields, "committed_before": committed, "problems": problems})


def _check(
    settings: BatchSettings,
    found: Findings,
    plan: BatchPlan,
    servable: Servable,
    reporter: Reporter,
) -> int:
    """Show the plan, and the scores of the first rows by the model that it was made with."""
    failed = found.states.failed
    reporter.show(lambda console: print_plan(found, plan, settings, console))
    print_failures(failed, reporter.errors)
    try:
        with doing("scoring the first rows"):
            first = score_first_rows(first_rows_of(found, plan), servable)
        first = first._replace(purity=found.purity)
    except BadOptions as e:
        return reporter.end(e.exit_code, problems=e.problems)
    reporter.show(lambda console: print_first_scores(first, console))
    code = EXIT_FAILED if failed or first.failure else EXIT_OK
    return reporter.end(code, plan_fields(settings, found, plan, first))
