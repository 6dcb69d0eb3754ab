"""Submit a pipeline to Flink, watch its job until the end, and never leave the job behind.

Beam's own waiting polls less and less often, up to once a minute. It does not end if no worker
starts, and its cancellation uses an address that Flink does not have. So the job is found by its
name and watched over Flink's REST interface, however it was submitted.

Issue: not reported.
Seen in: Python SDK 2.77 (`FlinkBeamJob` in flink_uber_jar_job_server.py).
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.runners.runner import PipelineResult, PipelineState

from scoreline.pipelines.runners.flink_rest import ENDED, Failure, FlinkRest
from scoreline.pipelines.runners.workarounds import removing_jar_copies
from scoreline.transforms.kafka.ending import find_ending

_POLL_SECONDS = 0.5
# For a running stream: at each poll the JobManager asks all TaskManagers for their metrics.
_STREAM_POLL_SECONDS = 5.0
# Includes copying and uploading the runner's jar, and the JobManager's translation.
_SUBMIT_SECONDS = 300.0
_LOOK_SECONDS = 0.1
# A JobManager that is silent for this time has lost its jobs, unless it is highly available.
_SILENCE_SECONDS = 60.0
_CANCEL_SECONDS = 60.0
# Before the savepoint is made, a bundle must end and Kafka must accept it.
_STOP_SECONDS = 120.0
_SOURCES = ("DataSource", "Source: ")
_CHAINED = " -> "
_PYTHON_ERROR = "Error received from SDK harness"


class FlinkJobFailed(RuntimeError):
    """Flink ended the job, or the job was abandoned. The message has the reason."""


def root_cause(text: str) -> str:
    """Return the cause in a Java stack trace: the Python error if there is one, else the last."""
    _, found, rest = text.rpartition(_PYTHON_ERROR)
    if found:
        lines = rest.partition("\n\tat ")[0].strip().splitlines()
        return lines[-1].strip()
    causes = [line for line in text.splitlines() if line.startswith("Caused by: ")]
    first = (causes or text.strip().splitlines() or ["no reason given"])[-1 if causes else 0]
    return first.removeprefix("Caused by: ").strip()


def run_on_flink(
    pipeline: beam.Pipeline,
    rest: FlinkRest,
    name: str,
    *,
    timeout_seconds: float,
    environment: str,
    say: Callable[[str], None],
    endless: bool = False,
) -> PipelineResult:
    """Submit a pipeline and return when Flink has finished its job; cancel the job otherwise.

    Args:
      pipeline: made with Beam's FlinkRunner, or its PortableRunner.
      rest: the cluster's REST interface.
      name: unique name of the job.
      timeout_seconds: maximum time from the submission until some step has produced output.
      environment: where Python workers come from, for the message if none starts.
      say: called with a sentence when Flink restarts the job.
      endless: whether the job is a stream. The first Ctrl-C or SIGTERM then stops it cleanly, with
        a savepoint; the second one cancels it.

    Raises:
      FlinkJobFailed: the job failed, was cancelled, did not start in time, or its JobManager
        is gone.
      KeyboardInterrupt: on Ctrl-C or SIGTERM, after the job is cancelled.
    """
    with _sigterm_as_interrupt():
        submission = _Submission(pipeline)
        try:
            result = submission.wait(_SUBMIT_SECONDS)
            job_id = _find(rest, name, result, _SUBMIT_SECONDS)
            watch = _Watch(rest, job_id, say)
            try:
                watch.until_ended(timeout_seconds, environment, endless=endless)
            except KeyboardInterrupt:
                if not endless:
                    raise
                watch.stop()
        except BaseException:
            _cancel(rest, name, submission)
            raise
        finally:
            submission.clean()
    return result


class _Submission:
    """Submits in a thread, because Beam's requests have no timeout."""

    def __init__(self, pipeline: beam.Pipeline) -> None:
        self._pipeline = pipeline
        self._result: PipelineResult | None = None
        self._error: BaseException | None = None
        self._files = contextlib.ExitStack()
        self._files.enter_context(removing_jar_copies())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._pipeline.run()
        except BaseException as e:  # noqa: BLE001  handed to the thread that waits
            self._error = e

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def wait(self, seconds: float) -> PipelineResult:
        until = time.monotonic() + seconds
        while not self.is_over:
            self._thread.join(_LOOK_SECONDS)
            if time.monotonic() > until:
                raise FlinkJobFailed(
                    f"Expected Flink to accept the job in {seconds:.0f} s. See the JobManager's log"
                )
        if self._error is not None:
            raise FlinkJobFailed(
                f"Flink rejected the job: {root_cause(_unescape(str(self._error)))}"
            ) from None
        if self._result is None:
            raise FlinkJobFailed("The job was submitted without a result")
        return self._result

    def clean(self) -> None:
        """Make Beam delete the jar that it uploaded, and delete the files that it left here."""
        if self._result is not None:
            with contextlib.suppress(Exception):  # a jar that stays does no harm
                _ = self._result.state
        self._files.close()


def _find(rest: FlinkRest, name: str, result: PipelineResult, seconds: float) -> str:
    """Return the id of the job with a name; a job server answers before it submits the job."""
    until = time.monotonic() + seconds
    while not (found := rest.job_ids(name)):
        if PipelineState.is_terminal(result.state):
            raise FlinkJobFailed(f"The job server ended the job: {result.state}. See its log")
        if time.monotonic() > until:
            raise FlinkJobFailed(
                f"Expected the job at {rest.url} after {seconds:.0f} s, got none. See the job "
                "server's log, and check that its --flink-master is this address"
            )
        time.sleep(_POLL_SECONDS)
    return found[0]


def _unescape(text: str) -> str:
    """Return an answer of Flink with real line ends: stack traces in it are JSON strings."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


class Runs:
    """The runs of a job, as seen by single polls. Each restart starts another run."""

    def __init__(self) -> None:
        """Start before the first run."""
        self._began_ms = 0
        self._told_ms = 0

    def another_ended(self, state: str, running_ms: int) -> bool:
        """Return whether a run has ended that was not reported yet; true once for each run.

        The state RESTARTING may come and go between two polls, but the new run is seen. In the
        states between, CREATED and INITIALIZING, there is no run, and `running_ms` is 0.

        Args:
          state: the job's state.
          running_ms: when the job last entered the state RUNNING; 0 if it did not.
        """
        newest_ms = max(self._began_ms, running_ms)
        ended_ms = newest_ms if state == "RESTARTING" else self._began_ms
        is_over = state == "RESTARTING" or newest_ms > ended_ms
        is_new = is_over and ended_ms > self._told_ms
        if is_new:
            self._told_ms = ended_ms
        self._began_ms = newest_ms
        return is_new


class _Watch:
    """Polls a job, and reports when Flink restarts it."""

    def __init__(self, rest: FlinkRest, job_id: str, say: Callable[[str], None]) -> None:
        self._rest = rest
        self._job_id = job_id
        self._say = say
        self._runs = Runs()
        self._failed_ms = 0

    def until_ended(self, timeout: float, environment: str, *, endless: bool) -> None:
        began = heard = time.monotonic()
        has_started = False
        while True:
            try:
                job = self._look()
                heard = time.monotonic()
            except LookupError:
                raise FlinkJobFailed(
                    f"{self._rest.url} does not have the job any more: its JobManager restarted. "
                    "Without high availability a restart loses all jobs"
                ) from None
            except OSError as e:
                if time.monotonic() - heard > _SILENCE_SECONDS:
                    raise FlinkJobFailed(
                        f"{self._rest.url} has not answered for {_SILENCE_SECONDS:.0f} s, so the "
                        f"JobManager is gone: {type(e).__name__}"
                    ) from e
                time.sleep(_POLL_SECONDS)
                continue
            state = str(job["state"])
            if state in ENDED:
                break
            has_started = has_started or _has_given_something(job)
            if not has_started and time.monotonic() - began > timeout:
                raise FlinkJobFailed(_why_not_started(self._rest, job, timeout, environment))
            time.sleep(_STREAM_POLL_SECONDS if endless and has_started else _POLL_SECONDS)
        if state == "CANCELED":
            raise FlinkJobFailed("the job was cancelled")
        if state == "FAILED":
            raise FlinkJobFailed(root_cause(self._rest.root_exception(self._job_id)))

    def stop(self) -> None:
        """Stop a job cleanly: it stops reading, and scores and delivers the records it has read."""
        with contextlib.suppress(OSError, LookupError):  # the request for the end reports it, too
            self._look()
        self._say("Flink ends the job with a savepoint")
        until = time.monotonic() + _STOP_SECONDS
        request_id, done, failure = None, None, ""
        while done is None:
            if time.monotonic() > until:
                raise FlinkJobFailed(f"Expected a clean stop within {_STOP_SECONDS:.0f} s{failure}")
            try:
                request_id = request_id or self._rest.stop(self._job_id)
                done = self._rest.savepoint(self._job_id, request_id)
                if done is not None and done.failure:  # the job may be restarting
                    failure, request_id, done = f": {root_cause(done.failure)}", None, None
                    time.sleep(_POLL_SECONDS)
            except (OSError, LookupError) as e:
                raise FlinkJobFailed(f"Expected a clean stop, got: {e}") from e
            time.sleep(_LOOK_SECONDS)
        with contextlib.suppress(OSError, LookupError):  # the job ends anyway
            while self._rest.job(self._job_id)["state"] not in ENDED and time.monotonic() < until:
                time.sleep(_LOOK_SECONDS)
        self._say(f"stopped; the savepoint is {done.location}")

    def _look(self) -> dict[str, Any]:
        job = self._rest.job(self._job_id)
        state = str(job["state"])
        restarted = self._runs.another_ended(state, int(job["timestamps"].get("RUNNING", 0)))
        if restarted and state not in ENDED:
            failure = _why_restarted(self._rest, self._job_id, self._failed_ms)
            self._failed_ms = failure.at_ms
            ending = find_ending(failure.text)
            if ending is not None:  # a restart would fail in the same way, again and again
                raise ending
            self._say(f"Flink restarts the job: {root_cause(failure.text)}")
        return job


def _why_restarted(rest: FlinkRest, job_id: str, since_ms: int = 0) -> Failure:
    """Return the newest failure of a job, or a sentence if there is none after a time."""
    try:
        reason = rest.root_exception(job_id)
        failure = rest.newest_failure(job_id, since_ms)
    except (OSError, LookupError) as e:  # a JobManager that recovers a job may be too busy
        return Failure(since_ms, f"its JobManager gave no reason: {type(e).__name__}")
    if failure is None or not failure.text:
        return Failure(since_ms, reason or "TaskManagers came or went")
    return failure._replace(text=reason or failure.text)


def _has_given_something(job: dict[str, Any]) -> bool:
    """Return whether some step has output: its Python worker runs and has finished a bundle.

    Sources do not count, because they are Java, unless steps are chained to them.
    """
    return any(
        vertex["status"] == "FINISHED" or vertex["metrics"]["write-records"]
        for vertex in job["vertices"]
        if not vertex["name"].startswith(_SOURCES) or _CHAINED in vertex["name"]
    )


def _why_not_started(rest: FlinkRest, job: dict[str, Any], timeout: float, environment: str) -> str:
    states = sorted({str(vertex["status"]) for vertex in job["vertices"]})
    if "RUNNING" in states or "INITIALIZING" in states:
        return (
            f"Expected output of a step in {timeout:.0f} s (--submit_timeout_s), but the tasks "
            "wait for Python workers. Check that each TaskManager reaches the environment "
            f"{environment}, and that its `python` has this version of Beam and scoreline. See its "
            "log"
        )
    slots = rest.slots()
    return (
        f"Expected a running task in {timeout:.0f} s (--submit_timeout_s), but the job is "
        f"{job['state']} and {slots.free} of {slots.total} slots are free. Start TaskManagers, or "
        "use a smaller --parallelism"
    )


def _cancel(rest: FlinkRest, name: str, submission: _Submission) -> None:
    """Cancel the job with a name, even if it appears only now, and wait for its end."""
    until = time.monotonic() + _CANCEL_SECONDS
    asked: set[str] = set()
    while time.monotonic() < until:
        try:
            for job_id in rest.job_ids(name):
                if rest.job(job_id)["state"] in ENDED:
                    return
                if job_id not in asked:
                    rest.cancel(job_id)
                    asked.add(job_id)
        except (OSError, LookupError):
            return  # the JobManager is gone, and the job with it
        if submission.is_over and not asked:
            return
        time.sleep(_LOOK_SECONDS)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, like Ctrl-C, within the with block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
