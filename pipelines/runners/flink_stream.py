"""What a stream on a Flink cluster needs beside what every job there needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import mmh3
from apache_beam.options.pipeline_options import (
    DebugOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
)

from scoreline.pipelines.options.problems import BadOptions, Passing
from scoreline.pipelines.options.stream import StreamScoringOptions, StreamScoringSettings
from scoreline.pipelines.runners.flink import FlinkOptions, is_yes, name_model
from scoreline.pipelines.runners.flink_rest import ENDED, FlinkRest

# Restarts are the cluster's: by default without an end, 1 s to 60 s after a failure.
_DEFAULTS = {
    "--checkpointing_interval": "10000",
    "--externalized_checkpoints_enabled": "true",
    "--retain_externalized_checkpoints_on_cancellation": "true",
    "--finish_bundle_before_checkpointing": "true",
}
# No bundle ends before it is so old, and steps look twice in that time, idle or not: 20 ms were 1 %
# of a core. Readers' own bundles last half a second; one of a transaction waits for its end.
_BUNDLE_MS, _TRANSACTION_MS = 200, 10
# Flink keeps what it has for a worker, a timer too, until the bundle ends or is so large: a reader
# would do nothing for the first part of each bundle.
_HAND_OVER = "data_buffer_size_limit"
# Readers are begun by a tick, and driven by timers from then on.
TICK_MS = 10_000
# Of a job that is about to be gone.
_ENDING = ("CANCELLING", "FAILING")


def stream_defaults(argv: Sequence[str]) -> dict[str, str]:
    """Return flags and values that a stream on Flink has unless they are given."""
    bundle_ms = _TRANSACTION_MS if "--exactly_once" in argv else _BUNDLE_MS
    return {**_DEFAULTS, "--max_bundle_time_mills": str(bundle_ms)}


def hand_over_at_once(options: PipelineOptions) -> None:
    """Have Flink hand each timer over to its worker at once, unless its buffer is set."""
    debug = options.view_as(DebugOptions)
    if debug.lookup_experiment(_HAND_OVER) is None:
        debug.add_experiment(f"{_HAND_OVER}=1")


def find_stream_problems(options: PipelineOptions) -> Iterator[str]:
    """Yield a sentence for each option that a stream on Flink cannot be run with."""
    flink = options.view_as(FlinkOptions)
    if not is_yes(flink.finish_bundle_before_checkpointing):
        yield (
            "--finish_bundle_before_checkpointing: expected true: a checkpoint within a bundle "
            "would tell of records that are not sent yet"
        )
    if str(flink.checkpointing_interval).startswith("-"):
        yield (
            "--checkpointing_interval: expected milliseconds, got "
            f"{flink.checkpointing_interval}. Without checkpoints Flink never restarts a stream"
        )
    if str(options.view_as(PortableOptions).environment_cache_millis) != "0":
        yield (
            "--environment_cache_millis: expected 0: a worker that outlives a restart may hold "
            "positions that Flink went back behind"
        )
    if options.view_as(StreamScoringOptions).until_end:
        yield (
            "--until_end: a stream on Flink has no end; leave it out, or run the backfill with "
            "the local runner or Prism"
        )


def most_readers(options: PipelineOptions) -> int:
    """Return how many tasks a stream can use; 1 where --readers is no number."""
    given = options.view_as(StreamScoringOptions).readers
    return max(1, int(given)) if given.isdigit() else 1


def max_parallelism(options: PipelineOptions) -> int:
    """Return into how many key groups Flink divides the keys, once the job is placed."""
    return int(options.view_as(FlinkRunnerOptions).max_parallelism)


def name_stream(
    options: PipelineOptions, settings: StreamScoringSettings, digest: str, job_id: str
) -> str:
    """Give the job a name that no other has and that tells its topic and group, and return it."""
    name = f"{_prefix(options, settings)}{name_model(digest)} {job_id[:8]}"
    options.view_as(GoogleCloudOptions).job_name = name
    return name


def _prefix(options: PipelineOptions, settings: StreamScoringSettings) -> str:
    """Return what the names of all jobs of a group begin with."""
    title = options.view_as(GoogleCloudOptions).job_name or "scoreline"
    return f"{title} {settings.topic} as {settings.group} "


def refuse_second_job(options: PipelineOptions, settings: StreamScoringSettings) -> None:
    """Check that no job of the same group runs on the cluster: both would score all records.

    Raises:
      BadOptions: one does; one that is about to end may be gone at the next attempt.
    """
    flink = options.view_as(FlinkRunnerOptions)
    prefix = _prefix(options, settings)
    for name, state in FlinkRest(flink.flink_master).jobs():
        if name.startswith(prefix) and state not in ENDED:
            told = (
                f"--group: the job '{name}' of group {settings.group} is {state} already at "
                f"{flink.flink_master}. Stop it first, in Flink's web page or by its REST "
                "interface; or give another group"
            )
            raise BadOptions([Passing(told) if state in _ENDING else told])


def spread_keys(slots: int, max_parallelism: int) -> list[str]:
    """Return a key for each slot, such that Flink spreads them evenly over any number of tasks.

    A keyed step gets its keys by hash: two of them on two tasks would meet on one half the time.
    So keys are chosen by what Flink and Beam do with them: slot i gets the key group in the middle
    of the i-th part of them; each task has a run of key groups.
    """
    keys = []
    for slot in range(slots):
        wanted = (2 * slot + 1) * max_parallelism // (2 * slots)
        names = (f"{slot}-{number}" for number in itertools.count())
        keys.append(next(key for key in names if key_group(key, max_parallelism) == wanted))
    return keys


def key_group(key: str, max_parallelism: int) -> int:
    """Return Flink's key group of a key: KeyGroupRangeAssignment over Beam's FlinkKey."""
    encoded = key.encode()
    low, _ = mmh3.hash64(bytes([len(encoded)]) + encoded, x64arch=True, signed=False)
    return _mix(low & 0xFFFFFFFF) % max_parallelism


def _mix(code: int) -> int:
    """Return Flink's MathUtils.murmurHash of an int, as one of 32 bits."""
    code = _multiply(code, 0xCC9E2D51)
    code = _rotate(code, 15)
    code = _multiply(code, 0x1B873593)
    code = _rotate(code, 13)
    code = (_multiply(code, 5) + 0xE6546B64) & 0xFFFFFFFF
    code ^= 4
    code ^= code >> 16
    code = _multiply(code, 0x85EBCA6B)
    code ^= code >> 13
    code = _multiply(code, 0xC2B2AE35)
    code ^= code >> 16
    if code < 0x80000000:
        return code
    return 0 if code == 0x80000000 else 0x100000000 - code


def _multiply(a: int, b: int) -> int:
    return a * b & 0xFFFFFFFF


def _rotate(code: int, bits: int) -> int:
    return (code << bits | code >> (32 - bits)) & 0xFFFFFFFF
