"""What the machine of a load test is."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.result import Machine

_VECTORS = ("avx", "avx2", "avx512f", "avx512_vnni", "amx_tile", "asimd", "sve")


def describe_machine(*, shared_with_sender: bool) -> Machine:
    """Return the processors and the memory of this machine, as far as it tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    facts = {
        name.strip(): value.strip()
        for name, colon, value in (line.partition(":") for line in lines)
        if colon
    }
    flags = facts.get("flags", facts.get("Features", "")).split()
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        cpu=facts.get("model name", "unknown"),
        flags=tuple(flag for flag in _VECTORS if flag in flags),
        memory_mb=psutil.virtual_memory().total / 1e6,
        shared_with_sender=shared_with_sender,
    )


def is_here(profile: Profile) -> bool:
    """Return whether the workers run on this machine: they do without a command that scales."""
    return not profile.scale_command
