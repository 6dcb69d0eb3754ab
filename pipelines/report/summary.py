"""What a run tells the person who started it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scoreline.lake.elements import UNKNOWN_ROWS, Outcome
from scoreline.lake.table.layout import dead_letters_root
from scoreline.pipelines.exit_codes import EXIT_DEAD_LETTERS, EXIT_FAILED, EXIT_OK
from scoreline.pipelines.options.batch import BatchScoringSettings
from scoreline.pipelines.plan.batch import Plan, Work
from scoreline.pipelines.plan.input_table import describe_steps
from scoreline.pipelines.report.console import make_table, say
from scoreline.transforms import metrics

_MAX_SHOWN = 10
_STEPS = (
    metrics.READ_MS,
    metrics.FEATURES_MS,
    metrics.PREDICT_MS,
    metrics.STAGE_MS,
    metrics.COMMIT_MS,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a run.

    Attributes:
      outcomes: one for each partition that was to be scored.
      seconds: wall time from the first row to the last commit.
      counters: sums of Beam's metrics, by name.
    """

    outcomes: list[Outcome]
    seconds: float
    counters: Mapping[str, int]

    def total(self, field: str) -> int:
        """Return the sum of a count over the partitions that are published."""
        return sum(getattr(outcome, field) for outcome in self.published)

    @property
    def published(self) -> list[Outcome]:
        """The partitions whose scores are in the table, by this run or by another at once."""
        return [o for o in self.outcomes if o.state in ("committed", "already_committed")]

    @property
    def unpublished(self) -> list[Outcome]:
        """The partitions that failed or that another run changed."""
        return [o for o in self.outcomes if o not in self.published]

    @property
    def exit_code(self) -> int:
        """0 when every row is scored, 1 when a partition failed, 3 when rows are dead letters."""
        if self.unpublished:
            return EXIT_FAILED
        return EXIT_DEAD_LETTERS if self.total("rows_dead") else EXIT_OK


def print_nothing_left(plan: Plan, settings: BatchScoringSettings, console: Console) -> None:
    """Say that every selected partition is committed already."""
    if settings.reprocess == "failed":
        console.print("Nothing is left to do: no partition failed last time.", highlight=False)
        return
    console.print(
        f"Nothing is left to do: all {len(plan.committed)} partitions are committed in "
        f"{settings.output}.",
        highlight=False,
    )
    print_outdated(plan, console)


def print_outdated(plan: Plan, console: Console) -> None:
    """Say which committed partitions another model, input or configuration scored."""
    if plan.outdated:
        console.print(
            f"{len(plan.outdated)} of them were scored with another model, input or configuration, "
            f"{plan.outdated[0].path} for one: --reprocess=stale scores those whose input changed, "
            "--reprocess=all everything again.",
            highlight=False,
            soft_wrap=True,
        )


def print_plan(plan: Plan, work: Work, settings: BatchScoringSettings, console: Console) -> None:
    """Show what would be done: partitions, rows, and where every input and column comes from."""
    paths = work.partitions
    size = sum(f.size_bytes for p in plan.selected if p.path in set(paths) for f in p.files)
    facts = _two_columns()
    facts.add_row("partitions", f"{len(paths)} to score, {len(plan.committed)} committed already")
    facts.add_row("", f"{paths[0]} … {paths[-1]}" if len(paths) > 1 else paths[0])
    rows = "counted as they are read," if work.rows == UNKNOWN_ROWS else f"{work.rows:,}"
    facts.add_row("rows", f"{rows} in {len(work.shards)} shards, {size / 1e6:,.1f} MB")
    facts.add_row("dataset", _describe_input(plan, work, settings))
    for field in work.input_schema or ():
        if field.name in work.top_columns:
            facts.add_row("", escape(f"{field.name} {field.type}"))
    for constant in work.constants:
        value = "the partition's" if constant.text is None else repr(constant.text)
        facts.add_row("", escape(f"{constant.column} {constant.data_type}, where missing: {value}"))
    facts.add_row("model", f"{settings.model}, signature {settings.signature}")
    facts.add_row("", plan.digest)
    for source in work.score.inputs:
        steps = describe_steps(source)
        how = f"{source.tensor.name} {source.tensor} ← {source.column}"
        facts.add_row("input", escape(f"{how}, {steps}" if steps else how))
    facts.add_row("output", settings.output)
    for field in work.schema:
        facts.add_row("column", escape(f"{field.name} {field.type}"))
    for column in plan.partition_columns:
        facts.add_row("column", escape(f"{column} string (partition)"))
    console.print(facts, highlight=False)


def _describe_input(plan: Plan, work: Work, settings: BatchScoringSettings) -> str:
    if plan.input_version is not None:
        return f"{settings.input}, Delta table, version {plan.input_version}"
    if work.input_schema is None:
        return f"{settings.input}, {work.format}"
    how = "inferred from the first files" if settings.schema is None else f"of {settings.schema}"
    return f"{settings.input}, {work.format}, with the schema {how}:"


def _two_columns() -> Table:
    table = make_table()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def print_report(report: Report, settings: BatchScoringSettings, console: Console) -> None:
    """Show what was done, what failed and why, and where the time went."""
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
    where = f" in {dead_letters_root(settings.output)}" if dead else ""
    table.add_row("dead letters", f"{dead:,}{where}")
    skipped = report.counters.get(metrics.SHARDS_SKIPPED.name, 0)
    if skipped:
        table.add_row("staged before", f"{skipped:,} shards, not scored again")
    duplicates = report.total("duplicate_keys")
    if duplicates:
        table.add_row("duplicate keys", f"{duplicates:,} rows repeat the key of another")
    rate = report.total("rows_in") / max(report.seconds, 1e-9)
    table.add_row("rows/s", f"{rate:,.0f} ({report.seconds:.1f} s, {settings.workers} workers)")
    times = [(m.name.removesuffix("_ms"), report.counters.get(m.name, 0)) for m in _STEPS]
    whole = sum(ms for _, ms in times)
    if whole:
        shares = " · ".join(f"{name} {100 * ms / whole:.0f} %" for name, ms in times)
        table.add_row("time", shares)
    console.print(table, highlight=False)
    if not report.total("rows_in") and not report.unpublished:
        console.print("No rows at all: the partitions scored hold none.", highlight=False)
    print_failures(report.unpublished, console)


def print_failures(outcomes: list[Outcome], console: Console) -> None:
    """Name the partitions that were not published, and why."""
    for outcome in outcomes[:_MAX_SHOWN]:
        say(console, f"{outcome.partition} {outcome.state}: {outcome.reason}")
    if len(outcomes) > _MAX_SHOWN:
        console.print(f"… and {len(outcomes) - _MAX_SHOWN} more", highlight=False)
