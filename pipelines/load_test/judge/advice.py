"""What to do about a bottleneck, in a sentence."""

from __future__ import annotations

from typing import NamedTuple

from scoreline.pipelines.load_test.judge.stalls import Stalls


class Facts(NamedTuple):
    """Numbers that an advice names.

    Attributes:
      workers: number of workers.
      partitions: number of partitions; None if unknown.
      without_rows: workers that scored no row.
      max_over_mean: rows or busy time of the busiest worker ÷ the mean.
      is_saturated: whether the workers use all cores.
      stalls: pauses at an interval; None without.
      memory_hours_left: hours until memory that grows reaches its limit; None if it does not.
    """

    workers: int
    partitions: int | None
    without_rows: int
    max_over_mean: float
    is_saturated: bool
    stalls: Stalls | None
    memory_hours_left: float | None


_BY_STAGE = {
    "read": "Write larger row groups, or let the model need fewer columns.",
    "poll": "Fetch more in one call, or add partitions and readers.",
    "decode": "Use a cheaper format for the records, or leave out fields that the model ignores.",
    "encode": "Write fewer columns, or a cheaper format.",
    "send": "Raise the quota of the sink, or send larger batches.",
    "stage": "Write larger files, or to faster storage.",
    "commit": "Commit less often, in larger portions, and compact the table.",
}


def advice_for(kind: str, stage: str, facts: Facts) -> str:
    """Return what to do about a kind of bottleneck in a stage."""
    match kind:
        case "cpu" if stage == "predict":
            remedy = "Make the model cheaper with `scoreline optimize`, or add workers"
            return f"{remedy}{_on_more_cores(facts)}."
        case "cpu":
            return f"Make {stage} cheaper, or add workers{_on_more_cores(facts)}."
        case "wait":
            return f"Add workers, not cores: {stage} waits, and more workers wait at the same time."
        case "lock":
            return (
                f"Make {stage} hold its lock or its shared service for a shorter time: all workers "
                "wait for it, and more workers wait longer."
            )
        case "skew":
            return (
                "Spread the rows evenly over the partitions, by a key with more values: one worker "
                f"has {facts.max_over_mean:.1f} × the mean."
            )
        case "partitions":
            return (
                f"Add partitions: {facts.workers} workers share {facts.partitions}, and "
                f"{facts.without_rows} of them have no rows."
            )
        case "source" | "sink":
            return _BY_STAGE.get(stage, f"Make the {kind} faster: the workers wait for it.")
        case "memory" if facts.memory_hours_left is not None:
            return (
                "Find what keeps memory, or restart workers before it reaches its limit, in "
                f"{facts.memory_hours_left:,.1f} hours."
            )
        case "memory":
            return "Give the workers more memory, or score smaller batches."
        case "stalls" if facts.stalls is not None:
            return (
                f"Look for what runs every {facts.stalls.every_s:.1f} s: scoring pauses then for "
                f"up to {facts.stalls.longest_ms:,.0f} ms."
            )
        case "harness":
            return "Send from another machine, or from more processes: the sender is the limit."
    return "Offer more load: no worker is busy."


def _on_more_cores(facts: Facts) -> str:
    return " on more cores, because all are used" if facts.is_saturated else ""
