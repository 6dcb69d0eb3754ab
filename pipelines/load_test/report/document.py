"""The JSON document of a load test: docs/schemas/load_test-1.json."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np

from scoreline.pipelines.load_test.judge.bottleneck import Bottleneck
from scoreline.pipelines.load_test.judge.elements import (
    Grows,
    Insufficient,
    Interval,
    Judged,
    Limit,
    Percentile,
    Slos,
    WorkerTimes,
)
from scoreline.pipelines.load_test.load_results import Soak
from scoreline.pipelines.load_test.result import (
    Capacity,
    Compared,
    LoadTest,
    Probe,
    Scaling,
    Series,
    Volume,
)
from scoreline.pipelines.report.plain import plain

SCHEMA = "scoreline.load_test/1"


def to_document(test: LoadTest, exit_code: int) -> dict[str, Any]:
    """Return a load test as the object of its schema; what is not finite is null."""
    document = {
        "schema": SCHEMA,
        "version": test.subject.version,
        "exit_code": exit_code,
        "problems": [],
        "started": to_text(test.started),
        "ended": to_text(test.ended),
        "subject": dataclasses.asdict(test.subject),
        "machine": dataclasses.asdict(test.machine),
        "target": _target(test.target),
        "verdict": {
            "outcome": test.outcome,
            "headroom": test.headroom,
            "slos": [_limit(limit) for limit in test.limits],
        },
        "capacity": None if test.capacity is None else _capacity(test.capacity),
        "estimates": dataclasses.asdict(test.estimates),
        "at_target": None if test.at_target is None else _probe(test.at_target),
        "start": None if test.start is None else _shallow(test.start),
        "spike": None if test.spike is None else dataclasses.asdict(test.spike),
        "step": None if test.step is None else _shallow(test.step),
        "soak": None if test.soak is None else _soak(test.soak),
        "bottleneck": None if test.bottleneck is None else _bottleneck(test.bottleneck),
        "model_alone": None if test.model_alone is None else _shallow(test.model_alone),
        "scaling": None if test.scaling is None else _scaling(test.scaling),
        "volume": None if test.volume is None else _volume(test.volume),
        "cost": None if test.cost is None else test.cost._asdict(),
        "validity": {
            "valid": all(check.is_ok for check in test.checks),
            "checks": [_check(*check) for check in test.checks],
            "facts": dict(test.facts),
        },
        "probes": [_probe(probe) for probe in test.probes],
        "cut": list(test.cut),
        "compared_with": None if test.compared_with is None else _compared(test.compared_with),
    }
    made: dict[str, Any] = plain(document)
    return made


def to_text(at: dt.datetime) -> str:
    """Return a time as text, in UTC."""
    return at.astimezone(dt.UTC).isoformat(timespec="seconds")


def _target(target: Slos) -> dict[str, Any]:
    given = dataclasses.asdict(target)
    if target.latency_ms is None:
        del given["latency_percentile"]
    return {name: value for name, value in given.items() if value is not None}


def _limit(limit: Limit) -> dict[str, Any]:
    return limit._asdict()


def _check(name: str, limit: float, value: float, is_ok: bool) -> dict[str, Any]:
    return {"name": name, "limit": limit, "value": value, "ok": is_ok}


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else interval._asdict()


def _percentile(percentile: Percentile) -> dict[str, Any]:
    if isinstance(percentile, Insufficient):
        return {"insufficient": True, "needed": percentile.needed}
    if isinstance(percentile, Grows):
        return {"grows": True}
    return percentile._asdict()


def _capacity(capacity: Capacity) -> dict[str, Any]:
    because = capacity.fails_because
    return {
        **_shallow(capacity),
        "fails_because": None if because is None else _limit(because),
        "lag_at_fail": _interval(capacity.lag_at_fail),
    }


def _probe(probe: Probe) -> dict[str, Any]:
    return {
        **{name: value for name, value in _shallow(probe).items() if name not in _NESTED},
        "replaced": probe.replaced or None,
        **_judged(probe.judged),
        "workers_measured": [_worker(worker) for worker in probe.worker_times],
        "series": None if probe.series is None else _series(probe.series),
    }


_NESTED = ("judged", "worker_times", "series")


def _judged(judged: Judged) -> dict[str, Any]:
    """Return a judgement; the times to recover are fields of the probe."""
    return {
        "outcome": judged.outcome,
        "sent_per_s": judged.sent_per_s,
        "scored_per_s": judged.scored_per_s,
        "latency_ms": {name: _percentile(value) for name, value in judged.latency_ms.items()},
        "design_effect": judged.design_effect,
        "lag_slope_share": _interval(judged.lag_slope_share),
        "final_backlog": judged.final_backlog,
        "send_late_p99_ms": judged.send_late_p99_ms,
        "freshness_s": judged.freshness_s,
        "error_share": judged.error_share,
        "memory_growth_mb_per_h": _interval(judged.memory_growth_mb_per_h),
        "memory_hours_left": judged.memory_hours_left,
        "limits": [_limit(limit) for limit in judged.limits],
        "checks": [_check(*check) for check in judged.checks],
        "invalid_because": judged.invalid_because,
    }


def _worker(worker: WorkerTimes) -> dict[str, Any]:
    """Return the times of a worker; shares are those of the time that it was not idle."""
    busy_s = sum(stage.useful_s + stage.waiting_s for stage in worker.stages)
    return {
        "worker": worker.worker,
        "wall_s": worker.wall_s,
        "cpu_s": worker.cpu_s,
        "idle_s": worker.idle_s,
        "rows": worker.rows,
        "stages": [
            {
                **_shallow(stage),
                "share": (stage.useful_s + stage.waiting_s) / busy_s if busy_s > 0 else 0.0,
            }
            for stage in worker.stages
        ],
    }


def _series(series: Series) -> dict[str, Any]:
    return {
        field.name: np.asarray(getattr(series, field.name), dtype=float).tolist()
        for field in dataclasses.fields(series)
    }


def _soak(soak: Soak) -> dict[str, Any]:
    return {
        **_shallow(soak),
        "limits": [_limit(limit) for limit in soak.limits],
        "checks": [_check(*check) for check in soak.checks],
        "lag_slope_share": _interval(soak.lag_slope_share),
        "memory_growth_mb_per_h": _interval(soak.memory_growth_mb_per_h),
    }


def _bottleneck(bottleneck: Bottleneck) -> dict[str, Any]:
    """Return a bottleneck; the stages of the workers are fields of the probes."""
    return {name: value for name, value in _shallow(bottleneck).items() if name != "stages"}


def _scaling(scaling: Scaling) -> dict[str, Any]:
    demand = scaling.demand
    return {
        **_shallow(scaling),
        "tested": [point._asdict() for point in scaling.tested],
        "alpha": _interval(scaling.alpha),
        "beta": _interval(scaling.beta),
        "demand": None
        if demand is None
        else {**_shallow(demand), "workers": _interval(demand.workers)},
    }


def _volume(volume: Volume) -> dict[str, Any]:
    fields = _shallow(volume)
    return {
        **{
            name: _interval(value) if isinstance(value, Interval) else value
            for name, value in fields.items()
        },
        "runs": [_shallow(run) for run in volume.runs],
        "grows_with_volume": bool(volume.growing_stage),
    }


def _compared(compared: Compared) -> dict[str, Any]:
    return {**_shallow(compared), "started": to_text(compared.started)}


def _shallow(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, each as it is."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
