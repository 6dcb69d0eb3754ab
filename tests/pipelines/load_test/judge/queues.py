"""Simulated queues whose truth is known, and windows of them. Vectorised: no loop over rows."""

from __future__ import annotations

import math

import numpy as np

from scoreline.pipelines.load_test.judge.elements import Window

WARM_UP_S = 20.0


def arrivals(rng, rate, seconds):
    """Return the due times of a Poisson process with a warm-up before time 0."""
    count = int(1.2 * rate * (seconds + WARM_UP_S)) + 100
    due_s = np.cumsum(rng.exponential(1 / rate, count)) - WARM_UP_S
    return due_s[due_s < seconds]


def served(due_s, service_s):
    """Return when one server ends each row, in order: Lindley's recursion as a running maximum."""
    busy_s = np.cumsum(service_s)
    return busy_s + np.maximum.accumulate(due_s - busy_s + service_s)


def committed(scored_s, commit_s):
    """Return when scores can be read that are committed in portions."""
    return np.ceil(scored_s / commit_s) * commit_s


def queue(rng, rate, load, seconds, *, kind="mm1", commit_s=0.0):
    """Return due and scored times of M/M/1 or M/D/1 at a load, the utilization ρ."""
    due_s = arrivals(rng, rate, seconds)
    mean_s = load / rate
    service_s = (
        rng.exponential(mean_s, len(due_s)) if kind == "mm1" else np.full(len(due_s), mean_s)
    )
    scored_s = served(due_s, service_s)
    return due_s, committed(scored_s, commit_s) if commit_s else scored_s


def stalls(rng, rate, seconds, *, per_s=1.0, stall_s=0.02, late_s=0.5):
    """Return due times and latencies: all rows of a short stall are late together."""
    due_s = arrivals(rng, rate, seconds)
    due_s = due_s[due_s >= 0]
    begins_s = np.sort(rng.uniform(-1, seconds, rng.poisson(per_s * (seconds + 1))))
    last = np.searchsorted(begins_s, due_s) - 1
    since_s = np.where(last >= 0, due_s - begins_s[np.maximum(last, 0)], math.inf)
    usual_s = rng.exponential(0.01, len(due_s))
    return due_s, np.where(since_s < stall_s, usual_s + late_s, usual_s)


def window(due_s, scored_s, seconds, rate, **other):
    """Return a window from time 0 on, sent on time, unless `other` has it otherwise."""
    values = {
        "phase": "confirm",
        "shape": "poisson",
        "workers": 1,
        "seed": 0,
        "offered_per_s": rate,
        "begin_s": 0.0,
        "end_s": seconds,
        "due_s": due_s,
        "sent_s": due_s,
        "scored_s": scored_s,
        "is_dead": np.zeros(len(due_s), bool),
        "commit_s": 0.0,
    }
    return Window(**{**values, **other})
