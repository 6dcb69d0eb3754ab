"""Finds the last run of the same subject, and compares its capacity and latency."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scoreline.pipelines.load_test.judge.elements import Interval
from scoreline.pipelines.load_test.report.document import SCHEMA
from scoreline.pipelines.load_test.result import Compared, LoadTest

DOCUMENT = "load_test.json"
# What makes two runs comparable. The model's digest and Scoreline's version may differ: how they
# change the capacity is the question.
_SAME_SUBJECT = ("mode", "runner", "partitions", "workers", "shape", "options")
_SAME_MACHINE = ("cores", "cpu")


class Earlier(NamedTuple):
    """What a comparison needs of an earlier run."""

    started: dt.datetime
    model_digest: str
    rate_per_s: float | None
    passes_per_s: float | None
    precision: float
    p99_ms: Interval | None
    row_us: Interval | None


def find_last_run(test: LoadTest, folder: Path) -> Compared | None:
    """Return the comparison with the newest earlier run of the same subject; None for none.

    Runs are of the same subject if command line, runner, workers and kind of machine are the same.
    Invalid runs, and documents that are damaged or of another version, are passed over.

    Args:
      test: the run.
      folder: the folder with the folders of reports.
    """
    found = [earlier for path in folder.glob(f"*/{DOCUMENT}") if (earlier := _read(path, test))]
    before = [earlier for earlier in found if earlier.started < test.started]
    return compare(test, max(before, key=lambda run: run.started)) if before else None


def compare(test: LoadTest, earlier: Earlier) -> Compared:
    """Return the changes since an earlier run.

    Capacities are the same within noise if they differ by at most the larger precision of the two
    searches; p99 and the cost of a row are if their intervals overlap. p99 is compared only at the
    same load.
    """
    now = test.capacity
    passes = now.passes_per_s if now else None
    change = _change(passes, earlier.passes_per_s)
    noise = max(earlier.precision, now.precision if now else 0.0)
    row = test.volume.cpu_us_per_row if test.volume else None
    row_before = earlier.row_us
    p99, before = _p99(test), earlier.p99_ms
    if test.target.rate_per_s is None or earlier.rate_per_s != test.target.rate_per_s:
        before = None
    return Compared(
        started=earlier.started,
        passes_per_s=earlier.passes_per_s,
        capacity_change=change,
        capacity_within_noise=change is not None and abs(change) <= noise,
        p99_ms=before.value if before else None,
        p99_change=_change(p99.value, before.value) if p99 and before else None,
        p99_within_noise=_overlap(p99, before),
        row_us=row_before.value if row_before else None,
        row_change=_change(row.value, row_before.value) if row and row_before else None,
        row_within_noise=_overlap(row, row_before),
        same_model=earlier.model_digest == test.subject.model_digest,
    )


def _change(now: float | None, before: float | None) -> float | None:
    return now / before - 1 if now is not None and before else None


def _overlap(one: Interval | None, other: Interval | None) -> bool:
    return bool(one and other and one.low <= other.high and other.low <= one.high)


def _p99(test: LoadTest) -> Interval | None:
    found = test.at_target.judged.latency_ms.get("p99") if test.at_target else None
    return found if isinstance(found, Interval) else None


def _read(path: Path, test: LoadTest) -> Earlier | None:
    """Return an earlier run; None if it is of another subject, invalid or unreadable."""
    try:
        document = json.loads(path.read_text("utf-8"))
        return _earlier(document) if _is_comparable(document, test) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_comparable(document: Mapping[str, Any], test: LoadTest) -> bool:
    subject = {**dataclasses.asdict(test.subject), "options": list(test.subject.options)}
    machine = dataclasses.asdict(test.machine)
    return (
        document["schema"] == SCHEMA
        and document["verdict"]["outcome"] != "invalid"
        and all(document["subject"][name] == subject[name] for name in _SAME_SUBJECT)
        and all(document["machine"][name] == machine[name] for name in _SAME_MACHINE)
    )


def _earlier(document: Mapping[str, Any]) -> Earlier:
    capacity = document["capacity"] or {}
    latency = (document["at_target"] or {}).get("latency_ms", {}).get("p99")
    passes = capacity.get("passes_per_s")
    return Earlier(
        started=dt.datetime.fromisoformat(document["started"]).astimezone(dt.UTC),
        model_digest=str(document["subject"]["model_digest"]),
        rate_per_s=document["target"].get("rate_per_s"),
        passes_per_s=None if passes is None else float(passes),
        precision=float(capacity.get("precision", 0.0)),
        p99_ms=_interval(latency),
        row_us=_interval((document["volume"] or {}).get("cpu_us_per_row")),
    )


def _interval(given: Mapping[str, Any] | None) -> Interval | None:
    """Return an interval of a document; None for insufficient samples and the like."""
    if not given or given.get("value") is None:
        return None
    high = float("inf") if given["high"] is None else float(given["high"])
    return Interval(float(given["value"]), float(given["low"]), high)
