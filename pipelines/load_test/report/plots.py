"""The charts of a report: a load over time, throughput over workers, a batch over its volume."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from scoreline.pipelines.load_test.judge.elements import Floats, Slos, WorkerTimes
from scoreline.pipelines.load_test.report.numbers import number, rate
from scoreline.pipelines.load_test.report.svg import Curve, draw_chart
from scoreline.pipelines.load_test.result import LoadTest, Probe, Scaling, Series, Volume

_FIT_POINTS = 60
# Phases that are no part of the search, and their names.
_OTHERS = {"spike": "Spike", "step": "Step", "soak": "Soak"}
# A forecast of the fit is shown up to this multiple of the largest tested number of workers.
_FORECAST = 2


def plots_of(test: LoadTest) -> list[Markup]:
    """Return all charts for which there is data."""
    shown: list[Markup] = []
    for name, probe in _probes_over_time(test):
        if probe.series is not None and len(probe.series.at_s):
            shown += plot_series(f"{name}, {rate(probe.offered_per_s)}", probe.series, test.target)
    if test.scaling is not None and test.scaling.tested:
        shown.append(plot_scaling(test.scaling))
    if test.volume is not None and test.volume.runs:
        shown.append(plot_volume(test.volume))
    return shown


def _probes_over_time(test: LoadTest) -> list[tuple[str, Probe]]:
    """Return the probe of the verdict, the lowest that fails, and the loads that change or last."""
    found = [("Target" if test.target.rate_per_s else "Capacity", test.at_target)]
    fails = test.capacity.fails_per_s if test.capacity else None
    failed = [
        probe
        for probe in test.probes
        if probe.series is not None and probe.offered_per_s == fails and probe.phase not in _OTHERS
    ]
    found += [("First load that fails", probe) for probe in failed[-1:]]
    for phase, name in _OTHERS.items():
        found += [(name, probe) for probe in test.probes if probe.phase == phase][-1:]
    return [(name, probe) for name, probe in found if probe is not None]


def plot_series(name: str, series: Series, target: Slos) -> list[Markup]:
    """Return the charts of a load over time: latency, rates, backlog."""
    at_s, edge = series.at_s, np.asarray(series.at_s)[[0, -1]]
    latency = [
        Curve(name="p99", x=at_s, y=series.latency_p99_ms),
        Curve(name="p50", x=at_s, y=series.latency_p50_ms, style="b", is_dashed=True),
    ]
    if target.latency_ms is not None:
        limit = np.full(2, target.latency_ms)
        limit_name = f"limit of p{number(target.latency_percentile)}"
        latency.append(Curve(name=limit_name, x=edge, y=limit, style="limit", is_dashed=True))
    rates = [
        Curve(name="offered", x=at_s, y=series.offered_per_s, style="b", is_dashed=True),
        Curve(name="scored", x=at_s, y=series.scored_per_s),
    ]
    backlog = [Curve(name="rows without a score", x=at_s, y=series.backlog, style="c")]
    return [
        draw_chart(f"{name}: latency in ms", "seconds", latency),
        draw_chart(f"{name}: rows per second", "seconds", rates),
        draw_chart(f"{name}: backlog in rows", "seconds", backlog),
    ]


def usl(scaling: Scaling, workers: Floats) -> Floats:
    """Return the fit of the Universal Scalability Law, capped at the partitions."""
    if scaling.lambda_per_s is None or scaling.alpha is None or scaling.beta is None:
        return np.full(len(workers), np.nan)
    n = np.minimum(workers, scaling.max_workers or np.inf)
    alpha, beta = scaling.alpha.value, scaling.beta.value
    with np.errstate(all="ignore"):  # what is not finite is a gap of the curve
        contention = 1 + alpha * (n - 1) + beta * n * (n - 1)
        return np.asarray(scaling.lambda_per_s * n / contention)


def plot_scaling(scaling: Scaling) -> Markup:
    """Return the throughput over workers, with the fit and perfect scaling."""
    points = sorted(scaling.tested, key=lambda point: point.workers)
    largest = points[-1].workers
    curves = []
    for name, is_held_out in (("tested", False), ("held out of the fit", True)):
        chosen = [point for point in points if point.held_out is is_held_out]
        if chosen:
            curves.append(
                Curve(
                    name=name,
                    x=np.array([float(point.workers) for point in chosen]),
                    y=np.array([point.per_s for point in chosen]),
                    style="b" if is_held_out else "a",
                    has_line=False,
                    has_dots=True,
                )
            )
    if scaling.lambda_per_s is not None:
        tested = np.linspace(1, largest, _FIT_POINTS)
        beyond = np.linspace(largest, _FORECAST * largest, _FIT_POINTS)
        curves += [
            Curve(name="fit", x=tested, y=usl(scaling, tested)),
            Curve(name="forecast", x=beyond, y=usl(scaling, beyond), is_dashed=True),
        ]
        ends = np.array([1.0, float(largest)])
        ideal = scaling.lambda_per_s * ends
        curves.append(Curve(name="perfect scaling", x=ends, y=ideal, style="limit", is_dashed=True))
    return draw_chart("Throughput over workers: rows per second", "workers", curves, min_step=1.0)


def plot_volume(volume: Volume) -> Markup:
    """Return the time of a batch over its rows."""
    runs = sorted(volume.runs, key=lambda run: run.rows)
    rows = np.array([float(run.rows) for run in runs])
    curves = [
        Curve(name="wall time", x=rows, y=np.array([run.wall_s for run in runs]), has_dots=True),
        Curve(
            name="CPU time",
            x=rows,
            y=np.array([run.cpu_s for run in runs]),
            style="b",
            is_dashed=True,
            has_dots=True,
        ),
    ]
    return draw_chart("Time over volume: seconds", "rows", curves)


def slowest_worker(probe: Probe | None) -> WorkerTimes | None:
    """Return the worker with the least idle time, which limits the others."""
    if probe is None or not probe.worker_times:
        return None
    return min(probe.worker_times, key=lambda worker: worker.idle_s / max(worker.wall_s, 1e-9))
