"""The states of the selected partitions: committed, outdated, to do, or failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from deltalake import DeltaTable

from scoreline.lake.elements import Outcome
from scoreline.lake.files.partitions import Partition, columns_of, run_id_of
from scoreline.lake.table.history import LivePartition, read_live_partitions
from scoreline.lake.table.inputs import find_changed, find_withdrawn
from scoreline.lake.table.layout import find_name_problems
from scoreline.lake.table.outcomes import read_failures
from scoreline.lake.table.scores import FOREIGN_RUN, committed_runs
from scoreline.models.model_spec import ModelSpec
from scoreline.pipelines.options.batch import BatchSettings
from scoreline.pipelines.plan.dataset import Dataset

# Increase it when the meaning of scores changes without a change of options.
_RUN_FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class States:
    """The states of partitions.

    Attributes:
      selected: all selected partitions.
      committed: partitions whose scores are in the table; they are not scored again.
      outdated: the committed ones that have another model, input or configuration.
      todo: partitions to score.
      failed: outcomes of partitions that cannot be started.
      runs: the run id of each selected partition, by path.
      held: the run id in the table, by path.
      partition_columns: partition columns of input and output, outermost first.
      has_records: whether rows have a column of whole tf.Examples.
    """

    selected: Sequence[Partition]
    committed: Sequence[Partition]
    outdated: Sequence[Partition]
    todo: Sequence[Partition]
    failed: Sequence[Outcome]
    runs: Mapping[str, str]
    held: Mapping[str, str]
    partition_columns: tuple[str, ...]
    has_records: bool

    def with_failures(self, reasons: Mapping[str, str]) -> States:
        """Return the states with further failed partitions, with the reasons."""
        failed = [
            Outcome(path, self.runs[path], "failed", reason=reason)
            for path, reason in reasons.items()
        ]
        todo = [partition for partition in self.todo if partition.path not in reasons]
        return dataclasses.replace(self, todo=todo, failed=[*self.failed, *failed])


def find_states(
    settings: BatchSettings,
    dataset: Dataset,
    model: ModelSpec | None,
    table: DeltaTable | None,
) -> States:
    """Return the states of the partitions of a dataset.

    With `--reprocess=stale`, partitions of the table whose input was withdrawn are among them.
    """
    partitions = dataset.listing.partitions
    records: dict[str, LivePartition] = {}
    if table is not None and settings.table.reprocess == "stale":
        records = {live.partition: live for live in read_live_partitions(table)}
        if settings.dataset.last is None:
            specs = settings.dataset.partitions
            gone = find_withdrawn(settings.dataset.root, partitions, records, specs)
            partitions = sorted([*partitions, *gone])
    configuration = _configuration(settings, dataset, model.digest if model else "")
    runs = {p.path: run_id_of(p, configuration) for p in partitions}
    held = committed_runs(table, runs) if table else {}
    wanted = _choose_by_state(settings, partitions, held, records)
    committed = [p for p in partitions if p.path in held and p.path not in wanted]
    output = settings.table.output
    reasons = {p.path: [*p.problems, *find_name_problems(output, p.path)] for p in partitions}
    broken = {path: "; ".join(found) for path, found in reasons.items() if found and path in wanted}
    outdated = [p for p in committed if held[p.path] != runs[p.path]]
    if outdated and table is not None and dataset.listing.version is not None:
        records = records or {live.partition: live for live in read_live_partitions(table)}
        outdated = _drop_rewritten(settings, outdated, configuration, records)
    return States(
        selected=partitions,
        committed=committed,
        outdated=outdated,
        todo=[p for p in partitions if p.path in wanted],
        failed=[],
        runs=runs,
        held=held,
        partition_columns=columns_of(partitions),
        has_records=dataset.has_records,
    ).with_failures(broken)


def _choose_by_state(
    settings: BatchSettings,
    partitions: Sequence[Partition],
    held: Mapping[str, str],
    records: Mapping[str, LivePartition],
) -> set[str]:
    """Return the paths of the partitions that `--reprocess` selects."""
    reprocess = settings.table.reprocess
    if reprocess == "all":
        return {p.path for p in partitions}
    if reprocess == "failed":
        return {p.path for p in partitions} & read_failures(settings.table.output).keys()
    missing = {p.path for p in partitions if held.get(p.path, FOREIGN_RUN) == FOREIGN_RUN}
    return missing | find_changed(settings.dataset.root, partitions, records)


def _drop_rewritten(
    settings: BatchSettings,
    outdated: Sequence[Partition],
    configuration: Mapping[str, object],
    records: Mapping[str, LivePartition],
) -> list[Partition]:
    """Return the partitions without those whose files were only rewritten since (OPTIMIZE)."""
    changed = find_changed(settings.dataset.root, outdated, records)
    left = []
    for partition in outdated:
        live = records.get(partition.path)
        if live is not None and partition.path not in changed:
            then = live.commit.get("input_fingerprint", "")
            if run_id_of(partition, configuration, then) == live.run_id:
                continue
        left.append(partition)
    return left


def _configuration(settings: BatchSettings, dataset: Dataset, digest: str) -> dict[str, object]:
    """Return all settings that change values; settings that change only speed must not be here.

    An inferred schema is not included, because it depends on the other partitions of the run. If it
    changed a value, this value would not fit the table's columns or the model's inputs.
    """
    fit = settings.model.fit
    since_first = {
        "pads": fit.pads,
        "pad_lengths": fit.pad_lengths,
        "truncate": fit.truncate,
        "allow_missing": settings.dataset.allow_missing,
        "forbid": sorted(settings.rules.forbid),
        "ranges": settings.rules.ranges,
        "csv_escape": settings.dataset.csv_escape,
        "schema": [(field.name, str(field.type)) for field in dataset.given or ()],
    }
    return {
        "format": _RUN_FORMAT,
        "model_digest": digest,
        "signature": settings.model.signature,
        "keys": settings.keys.keys,
        "keep": settings.keys.keep,
        "columns": fit.columns,
        "fills": fit.fills,
        "outputs": fit.outputs,
        # Newer options count only if they are used, so that older runs keep their run ids.
        **{name: value for name, value in since_first.items() if value},
    }
