"""Profiles for tests."""

from __future__ import annotations

from scoreline.pipelines.load_test.read_profile import read_profile
from scoreline.pipelines.options.commands import parse_flags
from scoreline.pipelines.options.load_test import read_load_test
from scoreline.pipelines.options.problems import Problems

STREAM = "stream: {brokers: h:1, model: m, keys: id}\nrecords: topic:old\n"
BATCH = "batch: {input: lake, model: m, keys: id}\n"
KEYS = "stream, batch, records, partitions, workers, scale_command, shape, trace, seed, "
KEYS += "start_rate_per_s, soak_s, slos, volumes, prices, need, precision, budget_s, output"


def read(*argv):
    """Return the profile of a command line."""
    problems = Problems()
    given_, _ = parse_flags("load-test", [str(argument) for argument in argv], problems)
    return read_profile(read_load_test(given_, problems), problems)
