"""Settings for autoscalers from what a load test measured. Each has a comment with its source."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from scoreline.pipelines.load_test.judge.elements import Outcome
from scoreline.pipelines.load_test.report.numbers import duration, number, rate
from scoreline.pipelines.load_test.report.scaling_facts import (
    Known,
    ScalingFacts,
    find_scaling_facts,
)
from scoreline.pipelines.load_test.result import LoadTest

FLINK = "flink-autoscaler.yaml"
KEDA = "keda-scaledobject.yaml"
DATAFLOW = "dataflow.txt"

# Offsets are committed about every 0.5 s. A lag of less than some seconds is no backlog.
_MIN_BEHIND_S = 5.0
# KEDA's own default is the longest sensible distance of two looks at the lag.
_MAX_POLLING_S = 30
# Bounds of the schema of HorizontalPodAutoscaler, and of Dataflow's hint.
_MAX_STABILIZATION_S = 3600
_MIN_HINT, _MAX_HINT = 0.1, 0.9
_MAX_LAG_ROWS = 2**63 - 1

_FLINK_ABOUT = """\
Settings of the autoscaler of Flink's Kubernetes operator, from version 1.11. Earlier versions have
job.autoscaler.target.utilization, and job.autoscaler.target.utilization.boundary for min and max.
The operator scales jobs of a FlinkDeployment in application mode or of a FlinkSessionJob. Scoreline
submits its jobs to a session cluster itself: there, give these keys to Flink's standalone
autoscaler, and the cluster jobmanager.scheduler: adaptive. Scoreline's readers report no
pendingRecords, so the autoscaler sees how busy they are, but not their backlog. This was not tried
on a cluster: look at what it proposes first, with job.autoscaler.scaling.enabled: "false"."""

_KEDA_ABOUT = """\
Scales TaskManagers of a Flink cluster by the lag of the stream's group. Needs
jobmanager.scheduler: adaptive, one slot for each TaskManager, and a job with as many --readers and
as high a --parallelism as maxReplicaCount. Do not scale a Deployment of `scoreline stream` on
another runner: the job assigns partitions itself, so a second replica would score all records a
second time. This was not tried on a cluster."""

_DATAFLOW_ABOUT = """\
Options for Dataflow. A worker here is a reader of the tested runner; Dataflow's is a machine.
Choose a machine type with the cores that a tested worker had. Streams on Dataflow were not tried.
To use: scoreline stream … --runner=DataflowRunner $(grep -v '^#' dataflow.txt)"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """Settings for autoscalers.

    Attributes:
      files: texts by name of the file; {} if nothing can be known.
      problems: why files are missing, one sentence each.
    """

    files: Mapping[str, str]
    problems: tuple[str, ...] = ()


def make_scaling_settings(test: LoadTest) -> ScalingSettings:
    """Return settings from a test of a stream. A setting that cannot be known is left out.

    An invalid test, and one without a load that passes, has none: the settings would be wrong.
    """
    if test.outcome is Outcome.INVALID:
        reason = "expected a valid measurement. See the line VERDICT, and run the test again"
        return ScalingSettings(files={}, problems=(f"No settings are written: {reason}.",))
    facts = find_scaling_facts(test)
    if facts.worker_per_s is None:
        reason = "expected a load that passes, got none. Start with a lower `start_rate_per_s`"
        return ScalingSettings(files={}, problems=(f"No settings are written: {reason}.",))
    head = _head(test, facts.worker_per_s)
    files = {
        FLINK: _comment(f"{head}\n\n{_FLINK_ABOUT}") + _flink(facts),
        DATAFLOW: _comment(f"{head}\n\n{_DATAFLOW_ABOUT}") + _dataflow(facts),
    }
    if facts.recover_s is None:
        reason = "its lag threshold needs the limit `recover_s`, or a spike that recovered"
        return ScalingSettings(files=files, problems=(f"{KEDA} is not written: {reason}.",))
    times = _keda_times(facts.recover_s, facts.settled_s, facts.start_s)
    if times.work_s <= 0:
        reason = (
            f"a worker has its first score {duration(times.start_s)} after its start, and a "
            f"backlog must be gone after {duration(times.behind_s)}. Set a longer `recover_s`"
        )
        return ScalingSettings(files=files, problems=(f"{KEDA} is not written: {reason}.",))
    files[KEDA] = _comment(f"{head}\n\n{_KEDA_ABOUT}") + _keda(
        facts, facts.worker_per_s, facts.recover_s, times
    )
    return ScalingSettings(files=files)


def _head(test: LoadTest, worker_per_s: Known) -> str:
    # !a: a comment must end with its line, whatever the name of the model is.
    return (
        f"Written by scoreline load-test from its test of {test.subject.model!a}, "
        f"{test.started:%Y-%m-%d %H:%M} UTC.\n"
        f"Capacity: {worker_per_s.because}; {rate(worker_per_s.value)} for each."
    )


def _comment(text: str, indent: str = "") -> str:
    return "".join(f"{indent}# {line}".rstrip() + "\n" for line in text.split("\n"))


def _set(key: str, value: str, because: str, indent: str = "  ") -> str:
    return f"{_comment(because, indent)}{indent}{key}: {value}\n"


def _left_out(key: str, reason: str, indent: str = "  ") -> str:
    return _comment(f"{key} is left out: {reason}", indent)


def _seconds(known: Known) -> int:
    return max(1, math.ceil(known.value))


def _flink(facts: ScalingFacts) -> str:
    return "flinkConfiguration:\n" + "".join(_flink_lines(facts))


def _flink_lines(facts: ScalingFacts) -> Iterable[str]:
    yield '  job.autoscaler.enabled: "true"\n'
    target, top = facts.utilization, facts.max_utilization
    yield _set("job.autoscaler.utilization.target", f'"{target.value:g}"', target.because)
    if top is None or top.value <= target.value:
        bounds = "job.autoscaler.utilization.min and .max"
        yield _left_out(bounds, "the capacity is not known precisely enough")
    else:
        low = max(0.0, 2 * target.value - top.value)
        yield _set("job.autoscaler.utilization.max", f'"{top.value:.2f}"', top.because)
        below = "as far below the target as the maximum is above"
        yield _set("job.autoscaler.utilization.min", f'"{low:.2f}"', below)
    key = "job.autoscaler.vertex.min-parallelism"
    if facts.min_workers is None:
        yield _left_out(key, facts.min_workers_unknown)
    else:
        yield _set(key, f'"{facts.min_workers.value:.0f}"', facts.min_workers.because)
    most = f'"{facts.max_workers.value:.0f}"'
    yield _set("job.autoscaler.vertex.max-parallelism", most, facts.max_workers.because)
    because = (
        f"{facts.max_workers.because}\nScoreline's flag --max_parallelism sets it for its jobs: "
        "give it\nthe same number. It cannot change later without losing the job's state."
    )
    yield _set("pipeline.max-parallelism", most, because)
    unknown = "no spike was measured that recovered"
    yield _duration("job.autoscaler.catch-up.duration", facts.recover_s, unknown)
    yield _duration("job.autoscaler.stabilization.interval", facts.settled_s, unknown)
    yield _duration("job.autoscaler.metrics.window", facts.window_s, "no window was measured")
    yield _duration("job.autoscaler.restart.time", facts.start_s, "no start was measured")


def _duration(key: str, known: Known | None, unknown: str) -> str:
    if known is None:
        return _left_out(key, unknown)
    return _set(key, f'"{_seconds(known)} s"', known.because)


class _Times(NamedTuple):
    """The time in which a backlog must be gone, and its parts.

    Attributes:
      behind_s: the whole time.
      polling_s: until KEDA looks at the lag.
      start_s: until a new worker scores; 0 if it was not measured.
    """

    behind_s: float
    polling_s: int
    start_s: float

    @property
    def work_s(self) -> float:
        """Time that is left to work off the backlog."""
        return self.behind_s - self.polling_s - self.start_s


def _keda_times(recover_s: Known, settled_s: Known | None, start_s: Known | None) -> _Times:
    """Return the times. A limit includes the start; a measured recovery had all its workers."""
    starts_s = 0.0 if start_s is None else start_s.value
    behind_s = max(_MIN_BEHIND_S, recover_s.value)
    if recover_s is settled_s:
        behind_s += starts_s
    return _Times(behind_s, max(1, min(_MAX_POLLING_S, int(behind_s / 5))), starts_s)


def _keda(facts: ScalingFacts, worker_per_s: Known, recover_s: Known, times: _Times) -> str:
    """Return the ScaledObject.

    KEDA asks for lag ÷ lagThreshold workers. A worker at the planned load has the rest of its
    capacity for the backlog, so n workers score n × capacity × (1 − utilization) × t rows of it in
    the time t: with these rows of one worker as threshold, any backlog is gone in t.
    """
    behind_s, polling_s, start_s = times
    spare = 1 - facts.utilization.value
    rows = int(worker_per_s.value * spare * times.work_s)
    start = "The start of a worker is not measured: subtract it too."
    if facts.start_s is not None:
        start = f"Start of a worker: {facts.start_s.because}; add that of its node."
    return "".join(
        (
            "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata:\n  name: scoreline\n",
            "spec:\n",
            _comment("REPLACE: the Deployment of your TaskManagers", "  "),
            "  scaleTargetRef:\n    apiVersion: apps/v1\n    kind: Deployment\n",
            "    name: REPLACE-taskmanagers\n",
            _keda_min(facts.min_workers, facts.min_workers_unknown),
            _set("maxReplicaCount", f"{facts.max_workers.value:.0f}", facts.max_workers.because),
            _set("pollingInterval", f"{polling_s}", f"a fifth of {duration(behind_s)}, see below"),
            _keda_behavior(facts.settled_s),
            "  triggers:\n    - type: kafka\n      metadata:\n",
            _comment("REPLACE: --brokers, --group and --topic of the stream", " " * 8),
            "        bootstrapServers: REPLACE-broker:9092\n",
            "        consumerGroup: REPLACE-group\n        topic: REPLACE-topic\n",
            _set(
                "lagThreshold",
                f'"{max(1, min(rows, _MAX_LAG_ROWS))}"',
                "rows that a worker may be behind: capacity × (1 − utilization) × time left\n"
                f"{rate(worker_per_s.value)} × {number(spare)} × ({number(behind_s)} − "
                f"{polling_s} − {number(start_s)}) s\n{recover_s.because}; at least "
                f"{_MIN_BEHIND_S:g} s, less pollingInterval and the start of a worker.\n{start}\n"
                "Scaling by lag holds no latency below that time, so minReplicaCount must hold\n"
                "the usual load.",
                " " * 8,
            ),
        )
    )


def _keda_min(known: Known | None, unknown: str) -> str:
    if known is None:
        # KEDA's default is 0: a group without lag would end the last worker.
        return _set("minReplicaCount", "1", f"the fewest that read; for more: {unknown}")
    return _set("minReplicaCount", f"{known.value:.0f}", known.because)


def _keda_behavior(settled_s: Known | None) -> str:
    """Return when workers are removed. KEDA's cooldownPeriod is only for the last worker."""
    key = "stabilizationWindowSeconds"
    if settled_s is None:
        return _left_out(f"advanced: … {key}", "no spike was measured that recovered")
    value = min(_MAX_STABILIZATION_S, _seconds(settled_s))
    return (
        "  advanced:\n    horizontalPodAutoscalerConfig:\n      behavior:\n        scaleDown:\n"
        + _set(
            key,
            f"{value}",
            f"{settled_s.because}; at most an hour.\ncooldownPeriod would only matter with "
            "minReplicaCount: 0",
            " " * 10,
        )
    )


def _dataflow(facts: ScalingFacts) -> str:
    return "".join(_dataflow_lines(facts))


def _dataflow_lines(facts: ScalingFacts) -> Iterable[str]:
    if facts.min_workers is None:
        yield _left_out("--num_workers", facts.min_workers_unknown, "")
    else:
        yield _option(f"--num_workers={facts.min_workers.value:.0f}", facts.min_workers.because)
    yield _option(f"--max_num_workers={facts.max_workers.value:.0f}", facts.max_workers.because)
    yield _option("--autoscaling_algorithm=THROUGHPUT_BASED", "adds and removes workers")
    hint = min(_MAX_HINT, max(_MIN_HINT, facts.utilization.value))
    because = f"{facts.utilization.because}; Dataflow takes {_MIN_HINT:g} to {_MAX_HINT:g}"
    yield _option(f"--dataflow_service_options=worker_utilization_hint={hint:g}", because)
    if facts.memory_mb is None:
        yield _left_out("--resource_hint=min_ram", "no memory was measured", "")
    else:
        because = facts.memory_mb.because
        yield _option(f"--resource_hint=min_ram={_seconds(facts.memory_mb)}MB", because)


def _option(option: str, because: str) -> str:
    return f"{_comment(because)}{option}\n"
