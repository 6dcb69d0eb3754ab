"""The flags of `scoreline load-test`. Most of a load test is in its profile."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping

from scoreline.pipelines.options.command_parser import HOW, CommandParser
from scoreline.pipelines.options.problems import Problems

USAGE = "scoreline load-test --profile FILE [options]"
DESCRIPTION = """\
Find the load that a stream or a batch holds, its bottleneck, and the workers that a load needs.

The pipeline that the profile names is started, driven with load, and judged by its limits. One page
tells the result; the report folder has it as report.html and load_test.json. A small test needs no
profile, but the flags of the tested command behind its name:

  scoreline load-test --records flights.parquet --rate_per_s 8000 --latency_ms 250 \\
      stream --brokers localhost:9092 --model flights/7 --keys id

Exit codes: 0 all limits hold; 4 a limit does not hold, or that is undecided; 5 the measurement is
invalid; 2 profile, options or model are wrong; 1 the test failed; 130 stopped by Ctrl-C.
"""
# Flags that override a key of the profile, and flags that override a limit in it.
OVERRIDES = ("records", "workers", "precision", "budget_s", "output")
LIMITS = ("rate_per_s", "latency_ms")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadTestSettings:
    """The flags as they are given: `read_profile` checks them with the profile.

    Attributes:
      profile: the file of the profile; "" for none.
      overrides: values of keys of the profile, by key.
      slos: values of limits, by name.
      write_scaling: folder for settings of autoscalers; "" for none.
      tested: the tested command and its arguments; () if the profile has them.
    """

    profile: str = ""
    overrides: Mapping[str, str] = dataclasses.field(default_factory=dict)
    slos: Mapping[str, str] = dataclasses.field(default_factory=dict)
    write_scaling: str = ""
    tested: tuple[str, ...] = ()


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    what = parser.group("what is tested")
    what.add_argument(
        "--profile",
        metavar="FILE",
        help="YAML file with the test; docs/load-test.md has an example",
    )
    what.add_argument(
        "tested",
        metavar="stream|batch …",
        nargs=argparse.REMAINDER,
        help="without a profile: the tested command and its flags, behind all other flags",
    )
    limits = parser.group("instead of the profile's value")
    limits.add_argument("--rate_per_s", metavar="N", help="rows per second that must hold")
    limits.add_argument(
        "--latency_ms", metavar="MS", help="maximum p99 from a row's due time to its score"
    )
    limits.add_argument(
        "--records",
        metavar="PATH",
        help="what is sent: a file or folder of .parquet, .jsonl or .tfrecord files, or topic:NAME",
    )
    limits.add_argument("--workers", metavar="N,…", help="numbers of workers to test, as 1,2,4")
    how = parser.group(HOW)
    how.add_argument(
        "--precision",
        metavar="quick|normal|fine",
        help="windows of 60, 120 or 300 s tell loads apart that differ by 10, 5 or 3 percent "
        "(default: normal)",
    )
    how.add_argument(
        "--budget_s",
        metavar="S",
        help="maximum duration of the whole test; the page tells what was cut",
    )
    how.add_argument(
        "--output",
        metavar="DIR",
        help="folder of the report (default: build/load-test/<time>)",
    )
    how.add_argument(
        "--write_scaling",
        metavar="DIR",
        help="write settings for the autoscalers of Flink, KEDA and Dataflow, for a stream, to DIR",
    )


def read_load_test(given: argparse.Namespace, problems: Problems) -> LoadTestSettings:
    """Return the flags; their values are checked with the profile."""
    if not given.profile and not given.tested:
        problems.add_usage(
            "--profile is required, or the tested command and its flags: stream … or batch …"
        )
    return LoadTestSettings(
        profile=given.profile or "",
        overrides=_given(given, OVERRIDES),
        slos=_given(given, LIMITS),
        write_scaling=given.write_scaling or "",
        tested=tuple(given.tested),
    )


def _given(given: argparse.Namespace, names: tuple[str, ...]) -> dict[str, str]:
    return {name: getattr(given, name) for name in names if getattr(given, name) is not None}
