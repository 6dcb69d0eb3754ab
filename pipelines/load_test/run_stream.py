"""A load test of a stream: from its profile to its result."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.dataset

from scoreline.pipelines.load_test.budget import Budget
from scoreline.pipelines.load_test.driver.loads import StreamSubject
from scoreline.pipelines.load_test.driver.records import read_file_values, read_topic_values
from scoreline.pipelines.load_test.driver.stream import StreamDriver
from scoreline.pipelines.load_test.judge.elements import Floats
from scoreline.pipelines.load_test.judge.search import PRECISIONS
from scoreline.pipelines.load_test.profile import Profile, Records, Trace, scale_argv
from scoreline.pipelines.load_test.result import LoadTest
from scoreline.pipelines.load_test.stream_method import StreamTest
from scoreline.pipelines.load_test.stream_plan import Plan
from scoreline.pipelines.load_test.stream_result import to_result
from scoreline.pipelines.load_test.tested import settings_of
from scoreline.pipelines.load_test.this_machine import is_here
from scoreline.pipelines.options.problems import BadOptions
from scoreline.transforms.kafka.client import Connection

_SCALE_S = 600.0


def run_stream_test(
    profile: Profile,
    folder: Path,
    run: str,
    budget: Budget,
    began: dt.datetime,
    say: Callable[[str], None],
) -> LoadTest:
    """Run a load test of a stream.

    Args:
      profile: the checked profile.
      folder: an empty folder for files.
      run: unique name of the test, for topics.
      budget: the time it may take.
      began: when the test began.
      say: tells the user about progress.

    Raises:
      BadOptions, ChildEnded: see `run_load_test`.
    """
    source = settings_of("stream", profile.argv).source
    connection = Connection(brokers=source.brokers, config=source.config)
    assert profile.records is not None  # noqa: S101  a profile of a stream has them
    subject = StreamSubject(
        connection=connection,
        argv=profile.argv,
        values=tuple(_read_values(profile.records, connection)),
        partitions=profile.partitions,
    )
    plan = Plan(
        slos=profile.slos,
        workers=profile.workers,
        precision=PRECISIONS[profile.precision],
        shape=profile.shape,
        trace_s=_read_trace(profile.trace) if profile.trace else None,
        seed=profile.seed,
        start_per_s=profile.start_rate_per_s,
        soak_s=profile.soak_s,
        partitions=profile.partitions,
        cores=len(os.sched_getaffinity(0)) if is_here(profile) else None,
    )
    with StreamDriver(subject, folder, run, lambda workers: _scale(profile, workers)) as driver:
        test = StreamTest(driver, plan, budget, say)
        found = test.run()
        facts = driver.facts
    for topic in driver.kept_topics:
        say(f"The broker kept topic {topic}; delete it")
    return to_result(profile, found, facts, budget.cut, began)


def _read_values(records: Records, connection: Connection) -> list[bytes]:
    if records.format == "topic":
        return read_topic_values(connection, records.path)
    return read_file_values(records.path)


def _read_trace(trace: Trace) -> Floats:
    """Return recorded arrivals in seconds.

    Raises:
      BadOptions: the file or its column cannot be read.
    """
    try:
        table = pyarrow.dataset.dataset(trace.file, format="parquet").to_table([trace.column])
        at = table[trace.column].drop_null().cast("timestamp[us]").cast("int64").to_numpy()
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadOptions([f"trace: expected times in {trace.column} of {trace.file}: {e}"]) from e
    return np.sort(at / 1e6)


def _scale(profile: Profile, workers: int) -> None:
    """Set the number of workers of the cluster, if the profile says how.

    Raises:
      BadOptions: the command fails.
    """
    if not profile.scale_command:
        return
    argv = scale_argv(profile, workers)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_SCALE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise BadOptions([f"scale_command: {' '.join(argv)}: {e}"]) from e
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1000:]
        problem = f"scale_command: {' '.join(argv)} ended with {done.returncode}: {said}"
        raise BadOptions([problem])
