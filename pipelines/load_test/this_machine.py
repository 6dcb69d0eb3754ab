"""What the machine of a load test is."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import psutil

from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.result import Machine

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
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
    """Return whether the workers run on this machine: so does a Flink cluster of the loopback.

    Other workers that a command scales are elsewhere.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--flink_master", default="")
    master: str = parser.parse_known_args(profile.argv)[0].flink_master
    if not master:
        return not profile.scale_command
    return master.rpartition("/")[2].rpartition(":")[0] in _LOOPBACK
