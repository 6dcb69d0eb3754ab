"""Summaries of plans and runs, as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scoreline.lake.elements import UNKNOWN_ROWS, Outcome
from scoreline.lake.table.layout import dead_letters_root
from scoreline.models.runtimes.model import Runtime
from scoreline.models.variants import Choice
from scoreline.pipelines.exit_codes import EXIT_DEAD_LETTERS, EXIT_FAILED, EXIT_OK
from scoreline.pipelines.options.batch import BatchSettings
from scoreline.pipelines.plan.batch import BatchPlan, Findings
from scoreline.pipelines.plan.input_table import describe_steps
from scoreline.pipelines.plan.states import States
from scoreline.pipelines.report.console import make_table, say
from scoreline.transforms import metrics

_MAX_SHOWN = 10
STEPS = (
    metrics.READ_MS,
    metrics.FEATURES_MS,
    metrics.PREDICT_MS,
    metrics.STAGE_MS,
    metrics.COMMIT_MS,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a run.

    Attributes:
      outcomes: one outcome per partition of the plan.
      seconds: wall time from the first row to the last commit.
      counters: sums of Beam's metrics, by name.
      impurity: why scores depend on more than their row, and why that is allowed; "" if not.
      runtime: what called the model, as the launcher saw it.
      choice: how `auto:` chose the model; None if it was named itself.
    """

    outcomes: list[Outcome]
    seconds: float
    counters: Mapping[str, int]
    impurity: str = ""
    runtime: Runtime | None = None
    choice: Choice | None = None

    def total(self, field: str) -> int:
        """Return the sum of a count over the published partitions."""
        return sum(getattr(outcome, field) for outcome in self.published)

    @property
    def published(self) -> list[Outcome]:
        """The partitions whose scores are in the table, from this run or a concurrent one."""
        return [o for o in self.outcomes if o.state in ("committed", "already_committed")]

    @property
    def unpublished(self) -> list[Outcome]:
        """The partitions that failed, or that another run has changed."""
        return [o for o in self.outcomes if o not in self.published]

    @property
    def exit_code(self) -> int:
        """0 if every row is scored, 1 if a partition failed, 3 if there are dead letters."""
        if self.unpublished:
            return EXIT_FAILED
        return EXIT_DEAD_LETTERS if self.total("rows_dead") else EXIT_OK


def print_nothing_left(states: States, settings: BatchSettings, console: Console) -> None:
    """Print that every selected partition is committed already."""
    if settings.table.reprocess == "failed":
        console.print("Nothing is left to do: no partition failed last time.", highlight=False)
        return
    console.print(
        f"Nothing is left to do: all {len(states.committed)} partitions are committed in "
        f"{settings.table.output}.",
        highlight=False,
    )
    print_outdated(states, console)


def print_outdated(states: States, console: Console) -> None:
    """Print the committed partitions that have another model, input or configuration."""
    if states.outdated:
        console.print(
            f"{len(states.outdated)} of them were scored with another model, input or "
            f"configuration, for example {states.outdated[0].path}: --reprocess=stale scores those "
            "whose input changed again, --reprocess=all everything.",
            highlight=False,
            soft_wrap=True,
        )


def print_passed_over(paths: Sequence[str], console: Console) -> None:
    """Print the files of the input that belong to no partition."""
    more = f" and {len(paths) - _MAX_SHOWN} more" if len(paths) > _MAX_SHOWN else ""
    say(console, f"Passed over, in no partition: {', '.join(paths[:_MAX_SHOWN])}{more}")


def print_plan(found: Findings, plan: BatchPlan, settings: BatchSettings, console: Console) -> None:
    """Print the plan: partitions, rows, and the sources of all inputs and columns."""
    paths, states = plan.partitions, found.states
    size = sum(f.size_bytes for p in states.todo for f in p.files)
    facts = _two_columns()
    facts.add_row("partitions", f"{len(paths)} to score, {len(states.committed)} committed already")
    facts.add_row("", f"{paths[0]} … {paths[-1]}" if len(paths) > 1 else paths[0])
    rows = "counted as they are read," if plan.rows == UNKNOWN_ROWS else f"{plan.rows:,}"
    facts.add_row("rows", f"{rows} in {len(plan.shards)} shards, {size / 1e6:,.1f} MB")
    facts.add_row("dataset", _describe_input(found, plan, settings))
    for field in plan.read.schema or ():
        if field.name in plan.read.top_columns:
            facts.add_row("", escape(f"{field.name} {field.type}"))
    for constant in plan.read.constants:
        which = f"where missing: {constant.text!r}"
        which = "the partition's value" if constant.is_partition else which
        facts.add_row("", escape(f"{constant.column} {constant.data_type}, {which}"))
    facts.add_row("model", f"{settings.model.path}, signature {settings.model.signature}")
    facts.add_row("", plan.score.digest)
    if plan.score.model.choice is not None:
        facts.add_row("", escape(f"variant {plan.score.model.choice}"))
    facts.add_row("", escape(f"called by {found.runtime}"))
    for source in plan.score.inputs:
        steps = describe_steps(source)
        how = f"{source.tensor.name} {source.tensor} ← {source.column}"
        facts.add_row("input", escape(f"{how}, {steps}" if steps else how))
    facts.add_row("output", plan.stage.output)
    for field in plan.stage.schema:
        facts.add_row("column", escape(f"{field.name} {field.type}"))
    for column in plan.commit.partition_columns:
        facts.add_row("column", escape(f"{column} string (partition)"))
    console.print(facts, highlight=False)


def _describe_input(found: Findings, plan: BatchPlan, settings: BatchSettings) -> str:
    root, schema = settings.dataset.root, settings.dataset.schema
    if found.input_version is not None:
        return f"{root}, Delta table, version {found.input_version}"
    if plan.read.schema is None:
        return f"{root}, {plan.read.format}"
    how = "inferred from the first files" if schema is None else f"of {schema}"
    return f"{root}, {plan.read.format}, with the schema {how}:"


def _two_columns() -> Table:
    table = make_table()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def print_report(report: Report, settings: BatchSettings, console: Console) -> None:
    """Print the results of a run: counts, failures with reasons, and times."""
    table = _two_columns()
    states = [o.state for o in report.outcomes]
    others = states.count("already_committed")
    table.add_row(
        "partitions",
        f"{states.count('committed')} committed"
        + (f", {others} committed by another run meanwhile" if others else "")
        + (f", {len(report.unpublished)} NOT published" if report.unpublished else ""),
    )
    table.add_row("rows in", f"{report.total('rows_in'):,}")
    table.add_row("scored", f"{report.total('rows_scored'):,}")
    dead = report.total("rows_dead")
    where = f" in {dead_letters_root(settings.table.output)}" if dead else ""
    table.add_row("dead letters", f"{dead:,}{where}")
    skipped = report.counters.get(metrics.SHARDS_SKIPPED.name, 0)
    if skipped:
        table.add_row("staged before", f"{skipped:,} shards, not scored again")
    saturated = report.counters.get(metrics.VALUES_SATURATED.name, 0)
    if saturated:
        table.add_row("saturated", f"{saturated:,} values beyond the range of a quantized input")
    duplicates = report.total("duplicate_keys")
    if duplicates:
        table.add_row("duplicate keys", f"{duplicates:,} rows repeat the key of another")
    rate = report.total("rows_in") / max(report.seconds, 1e-9)
    table.add_row("rows/s", f"{rate:,.0f} ({report.seconds:.1f} s, {settings.workers} workers)")
    times = [(m.name.removesuffix("_ms"), report.counters.get(m.name, 0)) for m in STEPS]
    whole = sum(ms for _, ms in times)
    if whole:
        shares = " · ".join(f"{name} {100 * ms / whole:.0f} %" for name, ms in times)
        table.add_row("time", shares)
    if report.choice is not None:
        table.add_row("variant", escape(str(report.choice)))
    if report.runtime is not None:
        table.add_row("called by", escape(describe_runtime(report.runtime, report.counters)))
    console.print(table, highlight=False)
    if report.impurity and report.total("rows_scored"):
        say(console, report.impurity)
    if not report.total("rows_in") and not report.unpublished:
        console.print("The scored partitions have no rows.", highlight=False)
    print_failures(report.unpublished, console)


def describe_runtime(runtime: Runtime, counters: Mapping[str, int]) -> str:
    """Return what called the model; workers may have another TensorFlow than the launcher."""
    if runtime.fallback or not counters.get(metrics.MODELS_FALLEN_BACK.name, 0):
        return str(runtime)
    return f"{runtime}; in workers Python TensorFlow, and their logs have the reason"


def print_failures(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print the partitions that were not published, with reasons."""
    for outcome in outcomes[:_MAX_SHOWN]:
        say(console, describe_failure(outcome))
    if len(outcomes) > _MAX_SHOWN:
        console.print(f"… and {len(outcomes) - _MAX_SHOWN} more", highlight=False)


def describe_failure(outcome: Outcome) -> str:
    """Return the problem of a partition that was not published."""
    return f"{outcome.partition} {outcome.state}: {outcome.reason}"
