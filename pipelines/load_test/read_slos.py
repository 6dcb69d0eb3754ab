"""Reads the limits of a profile, and refuses those that contradict each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from scoreline.pipelines.load_test.fields import Field, FieldReader, make_field
from scoreline.pipelines.load_test.judge.elements import Slos
from scoreline.pipelines.load_test.profile import ONLY_SLOS

SLO_NAMES = tuple(field.name for field in dataclasses.fields(Slos))


def read_slos(
    reader: FieldReader, field: Field | None, flags: Mapping[str, str], mode: str
) -> Slos:
    """Return the limits of a profile's section `slos`, and add all problems.

    Args:
      reader: reads the profile.
      field: the section; None without.
      flags: limits that flags set, by name; they replace those of the section.
      mode: stream or batch.
    """
    keys = reader.section(field, "slos", SLO_NAMES)
    keys |= {name: make_field(f"--{name}", text) for name, text in flags.items()}
    other = "batch" if mode == "stream" else "stream"
    for name in ONLY_SLOS[other]:
        if name in keys:
            reader.problems.add(f"{keys.pop(name).name}: only for a {other}; leave it out")
    slos = Slos(**_read_numbers(reader, keys))
    _check(slos, keys, reader)
    return slos


def _read_numbers(reader: FieldReader, keys: Mapping[str, Field]) -> dict[str, Any]:
    """Return the limits that are given and right."""
    rate = "a rate per second above 0"
    above = {
        "rate_per_s": (rate, 1e9),
        "latency_ms": ("a number of milliseconds above 0", 1e9),
        "freshness_s": ("a number of seconds above 0", 1e9),
        "recover_s": ("a number of seconds above 0", 1e9),
        "memory_mb": ("a number of MB above 0", 1e12),
        "deadline_s": ("a number of seconds above 0", 1e9),
        "cost_per_million": ("a price above 0", 1e12),
        "lag_growth_share": ("a share above 0, at most 1", 1.0),
    }
    found: dict[str, float | None] = {
        name: reader.number(keys.get(name), expected, above=0, high=high)
        for name, (expected, high) in above.items()
    }
    found["latency_percentile"] = reader.number(
        keys.get("latency_percentile"), "a percentile from 50 to 99.99", low=50, high=99.99
    )
    found["error_share"] = reader.number(
        keys.get("error_share"), "a share from 0 to below 1", low=0, below=1
    )
    found["rows"] = reader.whole(keys.get("rows"), "a whole number of at least 1", 1, 10**15)
    return {name: value for name, value in found.items() if value is not None}


def _check(slos: Slos, keys: Mapping[str, Field], reader: FieldReader) -> None:
    """Add limits that contradict each other, or that mean nothing alone."""
    add = reader.problems.add
    if "latency_percentile" in keys and "latency_ms" not in keys:
        add(f"{keys['latency_percentile'].name}: needs latency_ms; set both, or leave it out")
    for one, both in (("rows", "deadline_s"), ("deadline_s", "rows")):
        if one in keys and both not in keys:
            add(f"{keys[one].name}: needs {both}; set both, or leave it out")
    freshness_s, latency_ms = slos.freshness_s, slos.latency_ms
    if freshness_s is not None and latency_ms is not None and freshness_s * 1000 < latency_ms:
        add(
            f"{keys['freshness_s'].name}: expected at least latency_ms, {latency_ms / 1000:g} s, "
            f"got {freshness_s:g} s: no row may wait longer than freshness_s, so latency_ms would "
            "limit nothing"
        )
