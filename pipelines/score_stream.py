"""Score the records of a Kafka topic with a TensorFlow model, as they come: the job."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from rich.console import Console

from scoreline.models.runtimes.model import Runtime
from scoreline.pipelines.doing import doing
from scoreline.pipelines.exit_codes import (
    EXIT_DEAD_LETTERS,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_WRONG,
)
from scoreline.pipelines.options.commands import make_parser, parse_flags
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.options.stream import StreamSettings, read_stream
from scoreline.pipelines.plan.model import PlannedModel
from scoreline.pipelines.plan.stream import StreamPlan, plan_stream
from scoreline.pipelines.report.console import say
from scoreline.pipelines.report.documents import fields_of, runtime_fields, variant_fields
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.pipelines.report.reporter import Reporter, make_reporter
from scoreline.pipelines.report.unexpected import end_failed_job
from scoreline.pipelines.runners.any_runner import Timers
from scoreline.pipelines.runners.job_name import name_stream
from scoreline.pipelines.runners.runner import Runner, choose_runner
from scoreline.pipelines.score_batch import read_counters
from scoreline.pipelines.stream_setup import (
    check_all_read,
    end_earlier_transactions,
    register_schema,
    set_group,
)
from scoreline.pipelines.stream_watch import telling_of_delays
from scoreline.pipelines.supervise import end_with_supervisor, tell_begun
from scoreline.transforms.kafka.decode import DecodeRecords
from scoreline.transforms.kafka.ending import StreamRefused, find_ending
from scoreline.transforms.kafka.poll import PollKafka
from scoreline.transforms.kafka.read import ReadKafka
from scoreline.transforms.kafka.reader import stop_reading
from scoreline.transforms.kafka.unread import read_topic_ends
from scoreline.transforms.kafka.watched_table import SCORED_DATE
from scoreline.transforms.kafka.write import WriteKafka
from scoreline.transforms.score import ScoreStream


def build(
    pipeline: beam.Pipeline, plan: StreamPlan, timers: Timers | None = None
) -> beam.PCollection[None]:
    """Add the steps of a stream scoring job to a pipeline; return the empty output of the last one.

    From ReadKafka's poll to WriteKafka all steps are one fused stage on every runner. No step
    shuffles. Dead letters are in the same collection as scores, because the local runner does not
    fuse a Flatten. The last step commits the offsets of the first one.

    Args:
      pipeline: the pipeline.
      plan: the plan of the job.
      timers: the driver of readers, if the runner cannot run a splittable DoFn for long.
    """
    sink = plan.write if plan.write.exactly_once else None
    if timers is not None:
        records = (
            pipeline
            | "Tick" >> timers.tick
            | "ReadKafka" >> PollKafka(spec=plan.read, keys=timers.keys, sink=sink)
        )
    else:
        records = pipeline | "ReadKafka" >> ReadKafka(spec=plan.read, slots=plan.readers, sink=sink)
    scored = (
        records
        | "DecodeRecords" >> DecodeRecords(spec=plan.decode)
        | "Score" >> ScoreStream(spec=plan.score, swap=plan.swap)
    )
    return scored | "WriteKafka" >> WriteKafka(spec=plan.write)


class Prepared(NamedTuple):
    """A parsed command line, with its runner, its settings, and what calls the model."""

    settings: StreamSettings
    runner: Runner
    plan: StreamPlan
    runtime: Runtime | None


def prepare(settings: StreamSettings, others: Sequence[str], problems: Problems) -> Prepared:
    """Parse a command line, and check everything that can be checked before the first record.

    Args:
      settings: the settings of the command's own flags.
      others: the other arguments, which are for the runner.
      problems: the problems so far.

    Raises:
      BadOptions: lists all problems.
    """
    if not others:  # Beam must check the other flags
        problems.check_usage()
    runner = choose_runner(others, streaming=True, transactions=settings.sink.exactly_once)
    for problem in runner.find_problems(make_parser("stream").flags):
        problems.add_usage(problem)
    problems.add_all(
        runner.find_stream_problems(readers=settings.readers, until_end=settings.source.until_end)
    )
    problems.check_usage()
    settings = _place(settings, runner, problems)
    model = PlannedModel(here=runner.shares_process)
    with contextlib.closing(model):
        plan = plan_stream(settings, model.read_signature, problems)
    runner.refuse_second_job(settings.source.topic, settings.source.group)
    return Prepared(settings, runner, plan, model.runtime)


def _place(settings: StreamSettings, runner: Runner, problems: Problems) -> StreamSettings:
    """Return settings with the paths that the runner's workers see."""
    placement = runner.place(problems, max_tasks=settings.readers)
    sink = dataclasses.replace(settings.sink, output=runner.locate(settings.sink.output))
    settings = dataclasses.replace(settings, sink=sink)
    if placement is None:
        return settings
    return dataclasses.replace(settings, concurrent_calls=placement.concurrent_calls)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    set_up_logs()
    given = list(sys.argv[1:] if argv is None else argv)
    return execute(given, make_reporter("stream", given))


def execute(
    argv: Sequence[str],
    reporter: Reporter,
    adapt: Callable[[StreamPlan], StreamPlan] = lambda plan: plan,
) -> int:
    """Check, plan and score.

    Args:
      argv: the flags.
      reporter: prints what happens.
      adapt: returns the plan to run; a load test measures its stages, or replaces one.
    """
    problems = Problems()
    try:
        given, others = parse_flags("stream", argv, problems)
        end_with_supervisor()
        with doing("planning the job"):
            prepared = prepare(read_stream(given, problems), others, problems)
            prepared = prepared._replace(plan=adapt(prepared.plan))
    except BadOptions as e:
        return reporter.end(e.exit_code, problems=e.problems)
    if prepared.settings.check:
        reporter.show(lambda console: _print_plan(prepared, console))
        return reporter.end(EXIT_OK, _plan_fields(prepared))
    try:
        return _run(prepared, reporter)
    except BadOptions as e:
        return reporter.end(e.exit_code, problems=e.problems)
    except KeyboardInterrupt:
        problem = "Stopped. Run the same command to continue."
        return reporter.end(EXIT_FAILED, problems=[problem])
    except Exception as e:  # noqa: BLE001  a runner may raise anything; it sets the exit code
        ending = find_ending(e)
        if ending is not None:
            code = EXIT_WRONG if isinstance(ending, StreamRefused) else EXIT_FAILED
            return reporter.end(code, problems=[f"The job ended: {ending}"])
        advice = "Committed records stay; run the same command with --start=group to continue."
        return end_failed_job(reporter, e, advice)


def _run(prepared: Prepared, reporter: Reporter) -> int:
    settings, runner, plan, runtime = prepared
    console = reporter.console
    end_earlier_transactions(plan)
    plan = register_schema(settings, plan)
    read, targets = plan.read, settings.sink.targets
    if begun := set_group(settings, plan):
        some = ", ".join(map(str, begun))
        say(
            console,
            f"topic {read.topic} was deleted and created again since the last start: partitions "
            f"{some} begin at their first records",
        )
    tell_begun()
    say(
        console,
        f"scoring {read.topic} → {targets} as group {read.group}, model {plan.score.digest[:19]}…, "
        f"called by {runtime}",
    )
    began = time.monotonic()
    ends = read_topic_ends(read.connection, read.topic) if read.until_end else {}
    stop_reading.clear()
    with (
        runner.stopping_in_order(stop_reading),
        telling_of_delays(read.connection, read.topic, lambda text: say(reporter.errors, text)),
    ):
        name = name_stream(
            runner.options, read.topic, read.group, plan.score.digest, uuid.uuid4().hex
        )
        pipeline = runner.make_pipeline(plan.readers)
        runner.end_stream(build(pipeline, plan, runner.make_timers(plan.readers)))
        result = runner.run(pipeline, name, lambda text: say(console, text), endless=True)
    seconds, counters = time.monotonic() - began, read_counters(result)
    counts = {name: counters.get(name, 0) for name in ("rows_read", "rows_scored", "rows_dead")}
    _print_counts(counts, seconds, console)
    if read.until_end and not stop_reading.is_set():
        check_all_read(plan, ends)
    code = EXIT_DEAD_LETTERS if counts["rows_dead"] else EXIT_OK
    targets_and_model = _targets(prepared._replace(plan=plan))
    return reporter.end(code, {**targets_and_model, **counts, "seconds": seconds})


def _print_counts(counts: Mapping[str, int], seconds: float, console: Console) -> None:
    """Print the counts of the run."""
    say(
        console,
        f"read {counts['rows_read']:,} records, scored {counts['rows_scored']:,}, dead letters "
        f"{counts['rows_dead']:,}, in {seconds:.0f} s",
    )


def _targets(prepared: Prepared) -> dict[str, Any]:
    """Return source, sinks and model for JSON."""
    sink, plan = prepared.settings.sink, prepared.plan
    return {
        "topic": plan.read.topic,
        "group": plan.read.group,
        "output_topic": sink.output_topic or None,
        "output": sink.output or None,
        "dead_letter_topic": sink.dead_letter_topic or None,
        "model_digest": plan.score.digest,
        "variant": variant_fields(plan.score),
        "runtime": runtime_fields(prepared.runtime),
    }


def _plan_fields(prepared: Prepared) -> dict[str, Any]:
    """Return the plan for JSON."""
    plan = prepared.plan
    table = plan.write.table
    stored = [] if table is None else [*fields_of(table.schema)]
    if table is not None:
        stored.append({"name": SCORED_DATE, "type": "string"})
    return {
        **_targets(prepared),
        "format": plan.decode.format,
        "columns": fields_of(plan.decode.schema),
        "value_schema": None if plan.write.avro is None else str(plan.write.avro.schema),
        "table_columns": stored,
    }


def _print_plan(prepared: Prepared, console: Console) -> None:
    settings, _, plan, runtime = prepared
    say(console, f"topic      {plan.read.topic}, {plan.decode.format} → {settings.sink.targets}")
    say(console, f"model      {plan.score.digest}")
    if plan.score.model.choice is not None:
        say(console, f"variant    {plan.score.model.choice}")
    say(console, f"called by  {runtime}")
    columns = ", ".join(f"{field.name} {field.type}" for field in plan.decode.schema)
    say(console, f"columns    {columns}")
    if plan.write.avro:
        say(console, f"values     {plan.write.avro.schema}")
    if plan.write.table:
        stored = ", ".join(f"{field.name} {field.type}" for field in plan.write.table.schema)
        say(console, f"table      {stored}, {SCORED_DATE} string")
