"""Score the records of a Kafka topic with a TensorFlow model, as they come.

Scores go into another topic, into a Delta table (--output), or both.

    scoreline stream --brokers … --topic … --group … --model … --keys …
        --output_topic …

SIGTERM or Ctrl-C ends the job in order: what is read is scored, sent and committed. Exit codes: 0
stopped, or all is scored (--until_end); 1 the job failed, and run again it goes on; 2 options,
topics or model are wrong, found before the first record; 3 as 0, and some records are dead letters.
"""

from __future__ import annotations

import dataclasses
import sys
import time
import uuid
from collections.abc import Mapping, Sequence

import apache_beam as beam
from confluent_kafka import KafkaException
from rich.console import Console

from scoreline.pipelines.exit_codes import EXIT_DEAD_LETTERS, EXIT_FAILED, EXIT_OK
from scoreline.pipelines.options.batch import BatchScoringOptions, make_parser
from scoreline.pipelines.options.problems import BadOptions, Passing
from scoreline.pipelines.options.runner import add_runner_flags
from scoreline.pipelines.options.stream import StreamScoringOptions, StreamScoringSettings
from scoreline.pipelines.plan.access import allow
from scoreline.pipelines.plan.signature import read_signature
from scoreline.pipelines.plan.stream import StreamPlan, plan_stream
from scoreline.pipelines.report.console import make_console, say
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.pipelines.runners.any_runner import Timers
from scoreline.pipelines.runners.job_name import name_stream
from scoreline.pipelines.runners.runner import Runner, choose_runner
from scoreline.pipelines.score_batch import print_problems, read_counters, root_cause
from scoreline.pipelines.supervise import end_with_supervisor, supervise, tell_begun
from scoreline.transforms.kafka.append import SCORED_DATE, prepare_table
from scoreline.transforms.kafka.client import (
    advance_group,
    is_refused,
    list_partitions,
    reset_group,
)
from scoreline.transforms.kafka.decode import DecodeRecords
from scoreline.transforms.kafka.poll import PollKafka
from scoreline.transforms.kafka.producer import end_old_transactions
from scoreline.transforms.kafka.read import ReadKafka
from scoreline.transforms.kafka.reader import stop_reading
from scoreline.transforms.kafka.registry import RegistryAway, RegistryFails
from scoreline.transforms.kafka.unread import find_unread, read_topic_ends
from scoreline.transforms.kafka.write import WriteKafka
from scoreline.transforms.score import ScoreStream

_USAGE = (
    "scoreline stream --brokers HOST:PORT --topic T --group G --model PATH "
    "--keys C,… --output_topic T [options]"
)


def build(
    pipeline: beam.Pipeline, plan: StreamPlan, readers: int, timers: Timers | None = None
) -> beam.PCollection[None]:
    """Add the steps of a stream scoring job to a pipeline; return what the last one gives: nothing.

    From ReadKafka's poll to WriteKafka all is one fused stage on every runner: there is no step
    that shuffles, and dead letters go along with the scores instead of joining them by a Flatten,
    which the local runner does not fuse. Offsets are committed by the last step for the first.

    Args:
      pipeline: to add to.
      plan: what to do.
      readers: consumers that share the partitions.
      timers: drive them, if the runner cannot run a splittable step for long.
    """
    sink = plan.write if plan.write.exactly_once else None
    if timers is not None:
        records = (
            pipeline
            | "Tick" >> timers.tick
            | "ReadKafka" >> PollKafka(spec=plan.read, keys=timers.keys, sink=sink)
        )
    else:
        records = pipeline | "ReadKafka" >> ReadKafka(spec=plan.read, slots=readers, sink=sink)
    scored = (
        records
        | "DecodeRecords" >> DecodeRecords(spec=plan.decode)
        | "Score" >> ScoreStream(spec=plan.score, swap=plan.swap)
    )
    return scored | "WriteKafka" >> WriteKafka(spec=plan.write)


def parse_arguments(argv: Sequence[str]) -> Runner:
    """Return the runner of a command line, with its options; with `--help`, print them and exit."""
    parser = make_parser(_USAGE, __doc__, StreamScoringOptions)
    add_runner_flags(parser)
    parser.parse_known_args(argv)
    return choose_runner(argv, streaming=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    set_up_logs()
    given = list(sys.argv[1:] if argv is None else argv)
    return execute(given, make_console(), make_console(stderr=True))


def execute(argv: Sequence[str], console: Console, errors: Console) -> int:
    """Check, plan and score, as the command line says."""
    runner = parse_arguments(argv)
    in_process = runner.shares_process
    is_check = runner.options.view_as(BatchScoringOptions).check
    if runner.options.view_as(StreamScoringOptions).restart and not is_check:
        once = [flag for flag in argv if flag != "--restart"]
        # The group is set to the start once: who comes after a failure goes on where it is.
        again = _without_start(once)
        return supervise(once, again, lambda text: say(errors, text), ["scoreline", "stream"])
    end_with_supervisor()
    try:
        settings = read_settings(runner)
        plan = plan_stream(settings, lambda s, d: read_signature(s, d, in_process=in_process))
        runner.refuse_second_job(settings.topic, settings.group)
    except BadOptions as e:
        print_problems(e.problems, errors)
        return e.exit_code
    if settings.scoring.check:
        _print_plan(settings, plan, console)
        return EXIT_OK
    try:
        return _run(settings, plan, runner, console)
    except BadOptions as e:
        print_problems(e.problems, errors)
        return e.exit_code
    except KeyboardInterrupt:
        errors.print("Stopped. Run the same command to go on.")
        return EXIT_FAILED
    except Exception as e:  # noqa: BLE001  a runner may raise anything; the exit code must tell
        say(errors, f"The job failed: {root_cause(e)}")
        say(errors, "What is committed stays; run the same command, with --start=group, to go on.")
        return EXIT_FAILED


def read_settings(runner: Runner) -> StreamScoringSettings:
    """Return checked settings, and have the runner's options completed for its cluster.

    Raises:
      BadOptions: options are wrong, or the cluster is not there; lists all of it.
    """
    given = runner.options.view_as(StreamScoringOptions)
    problems = runner.find_problems()
    problems += runner.find_stream_problems(readers=given.readers, until_end=given.until_end)
    # What is no number is refused below.
    readers = max(1, int(given.readers)) if given.readers.isdigit() else 1
    placement = runner.place(problems, max_tasks=readers)
    settings = StreamScoringSettings.from_options(runner.options, problems)
    scoring = dataclasses.replace(settings.scoring, output=runner.locate(settings.scoring.output))
    if placement is not None:
        scoring = dataclasses.replace(
            scoring, workers=placement.slots, calls_per_process=placement.concurrent_calls
        )
    return dataclasses.replace(settings, scoring=scoring)


def _run(
    settings: StreamScoringSettings, plan: StreamPlan, runner: Runner, console: Console
) -> int:
    if settings.exactly_once:
        _end_old_transactions(settings, plan)
    plan = _register_schema(settings, plan)
    _set_group(settings, plan)
    tell_begun()
    say(
        console,
        f"scoring {settings.topic} → {_targets(settings)} as group {settings.group}, model "
        f"{plan.score.digest[:19]}…",
    )
    began = time.monotonic()
    ends = {}
    if settings.until_end:
        ends = read_topic_ends(settings.connection, settings.group, settings.topic)
    stop_reading.clear()
    with runner.stopping_in_order(stop_reading):
        digest, run = plan.score.digest, uuid.uuid4().hex
        name = name_stream(runner.options, settings.topic, settings.group, digest, run)
        timers = runner.make_timers(settings.readers)
        pipeline = runner.make_pipeline(settings.readers)
        runner.end_stream(build(pipeline, plan, settings.readers, timers))
        result = runner.run(pipeline, name, lambda text: say(console, text), endless=True)
    counters = read_counters(result)
    read, dead = counters.get("rows_read", 0), counters.get("rows_dead", 0)
    say(
        console,
        f"read {read:,} records, scored {counters.get('rows_scored', 0):,}, dead letters {dead:,}, "
        f"in {time.monotonic() - began:.0f} s",
    )
    if settings.until_end and not stop_reading.is_set():
        _check_all_read(settings, ends)
    return EXIT_DEAD_LETTERS if dead else EXIT_OK


def _check_all_read(settings: StreamScoringSettings, ends: Mapping[int, int]) -> None:
    """Have the job fail when its runner ended it before all was scored: Prism did so once.

    Raises:
      RuntimeError: records are left.
    """
    unread = find_unread(settings.connection, settings.group, settings.topic, ends)
    if unread:
        where = ", ".join(f"{partition} from offset {at}" for partition, at in unread.items())
        raise RuntimeError(
            f"the runner ended the job before all was scored: of topic {settings.topic}, records "
            f"of partition {where} are left"
        )


def _end_old_transactions(settings: StreamScoringSettings, plan: StreamPlan) -> None:
    try:
        partitions = list_partitions(settings.connection.admin(), settings.topic)
        end_old_transactions(plan.write, settings.readers, len(partitions))
    except KafkaException as e:
        if not is_refused(e.args[0]):
            raise
        what = f"transactional-id {plan.write.transactional_id(0)}"
        told = f"--exactly_once: expected to be allowed to WRITE {what}, got: {e.args[0].str()}. "
        raise BadOptions([told + allow("Write", what)]) from e


def _register_schema(settings: StreamScoringSettings, plan: StreamPlan) -> StreamPlan:
    """Have the registry know the schema of the scores, and return a plan with its id.

    Raises:
      BadOptions: it does not take it.
    """
    if settings.registry is None or plan.write.avro is None:
        return plan
    subject = f"{settings.output_topic}-value"
    try:
        schema_id = settings.registry.connect().register(subject, plan.write.avro.schema)
    except RegistryAway as e:
        raise BadOptions([Passing(f"--schema_registry: {e}")]) from e
    except (ValueError, RegistryFails) as e:
        raise BadOptions(
            [
                f"--schema_registry: the scores' schema cannot be registered as {subject}: {e}. "
                "Take another --output_topic, the same outputs as before, or a laxer compatibility"
            ]
        ) from e
    avro = dataclasses.replace(plan.write.avro, schema_id=schema_id)
    return dataclasses.replace(plan, write=dataclasses.replace(plan.write, avro=avro))


def _set_group(settings: StreamScoringSettings, plan: StreamPlan) -> None:
    """Have the group where the options want it, and not behind what the table has.

    Raises:
      BadOptions: the options want it there.
    """
    connection, group, topic = settings.connection, settings.group, settings.topic
    done = {}
    if plan.write.table is not None:
        admin = connection.admin()
        done = prepare_table(plan.write.table, list_partitions(admin, topic))
    if settings.start != "group":
        try:
            reset_group(connection, group, topic, settings.start, settings.start_ms, done)
        except ValueError as e:
            raise BadOptions(
                [
                    f"--start={settings.start}: {settings.scoring.output} has these records from "
                    f"group {group} already: {e}. It takes no record of a group twice: to add "
                    "what another model makes of them, take another --group"
                ]
            ) from e
    # A job that was killed after its last file, before Kafka knew, left the group behind it.
    advance_group(connection, group, topic, done)


def _targets(settings: StreamScoringSettings) -> str:
    return " and ".join(
        place for place in (settings.output_topic, settings.scoring.output) if place
    )


def _without_start(argv: Sequence[str]) -> list[str]:
    """Return a command line without --start and --start_time."""
    kept: list[str] = []
    skip = False
    for flag in argv:
        if skip:
            skip = False
        elif flag in ("--start", "--start_time"):
            skip = True
        elif not flag.startswith(("--start=", "--start_time=")):
            kept.append(flag)
    return kept


def _print_plan(settings: StreamScoringSettings, plan: StreamPlan, console: Console) -> None:
    say(console, f"topic      {settings.topic}, {settings.format} → {_targets(settings)}")
    say(console, f"model      {plan.score.digest}")
    columns = ", ".join(f"{field.name} {field.type}" for field in plan.decode.schema)
    say(console, f"columns    {columns}")
    if plan.write.avro:
        say(console, f"values     {plan.write.avro.schema}")
    if plan.write.table:
        stored = ", ".join(f"{field.name} {field.type}" for field in plan.write.table.schema)
        say(console, f"table      {stored}, {SCORED_DATE} string")
