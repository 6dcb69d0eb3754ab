"""The first rows of a dataset, read and scored like in a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from scoreline.lake.elements import Shard
from scoreline.lake.files.data_file import CorruptFile
from scoreline.lake.files.partitions import Partition, columns_of
from scoreline.lake.files.read import DatasetSpec, read_shard
from scoreline.lake.storage import resolve
from scoreline.models.errors import ModelError
from scoreline.models.model_spec import ModelSpec
from scoreline.models.purity import MAX_ROWS
from scoreline.models.servable import Servable
from scoreline.models.signature import Signature
from scoreline.pipelines.options.inspect import InspectSettings
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.plan.batch import BatchPlan, Findings
from scoreline.pipelines.plan.dataset import Dataset, find_dataset
from scoreline.pipelines.plan.fit import fit_model
from scoreline.pipelines.plan.input_table import Mapped, map_inputs
from scoreline.pipelines.plan.rows import plan_rows
from scoreline.transforms.isolate import EveryRowFails
from scoreline.transforms.metrics import VALUES_SATURATED, Tally
from scoreline.transforms.purity import Purity, check_rows
from scoreline.transforms.scoring import ScoreSpec, Serving, score_batch

_ROWS_CALLED = 5


class FirstRows(NamedTuple):
    """The first rows of a dataset, and the columns that feed the model.

    Attributes:
      shard: the shard that starts with them.
      read: the spec to read the shard.
      score: the model and its inputs.
      mapped: the source of each input, with problems.
    """

    shard: Shard
    read: DatasetSpec
    score: ScoreSpec
    mapped: Sequence[Mapped]


class FirstScores(NamedTuple):
    """The result of a model call on the first rows of a dataset.

    Attributes:
      partition: the partition of the rows; "" if none was read.
      mapped: the source of each input.
      rows: outputs of the rows, or the reasons of dead letters; empty if columns do not fit.
      failure: the reason why the model call failed; "" if it succeeded.
      saturated: number of values beyond the range of a quantized input.
      purity: the result of the purity check; None if it was not made.
    """

    partition: str = ""
    mapped: Sequence[Mapped] = ()
    rows: Sequence[dict[str, Any]] = ()
    failure: str = ""
    saturated: int = 0
    purity: Purity | None = None

    @property
    def fit(self) -> bool:
        """Whether every input has a column that fits."""
        return not any(row.problem for row in self.mapped)


def first_rows_of(found: Findings, plan: BatchPlan) -> FirstRows:
    """Return the first rows of a plan; its first shard has none if no partition has files."""
    mapped = map_inputs(found.fit, found.read_schema) if found.fit and found.read_schema else ()
    shard = next((shard for shard in plan.shards if shard.pieces), plan.shards[0])
    return FirstRows(shard, plan.read, plan.score, mapped)


def find_first_rows(
    settings: InspectSettings, model: ModelSpec, signature: Signature, problems: Problems
) -> FirstRows:
    """Return the first rows of the first selected partition that has files.

    Raises:
      BadOptions: there are no rows, they cannot be read, or an option names a missing thing.
    """
    dataset = find_dataset(settings.dataset, problems)
    fit = fit_model(
        signature,
        settings.model,
        problems,
        rules=settings.rules,
        has_records=dataset is not None and dataset.has_records,
        input_partitions=columns_of(dataset.listing.partitions) if dataset else (),
    )
    usable = _find_partition(dataset, problems) if dataset else None
    rows = plan_rows(dataset, [usable] if usable else [], fit, _ROWS_CALLED, problems)
    return FirstRows(
        shard=rows.shards[0],
        read=rows.read,
        score=fit.score_spec(model),
        mapped=map_inputs(fit, rows.files.read_schema),
    )


def _find_partition(dataset: Dataset, problems: Problems) -> Partition | None:
    """Return the first partition that has files."""
    for partition in dataset.listing.partitions:
        if partition.files and not partition.problems:
            return partition
    problems.add(f"--input: no partition of {dataset.settings.root} has files")
    return None


def score_first_rows(
    first: FirstRows, servable: Servable, *, checks_purity: bool = False
) -> FirstScores:
    """Score the first rows like a job, and return the result.

    Args:
      first: the rows.
      servable: the loaded model.
      checks_purity: whether to check that the score of each row is its own.

    Raises:
      BadOptions: there are no rows, or they cannot be read.
    """
    found = FirstScores(first.shard.partition, first.mapped)
    if not found.fit or not first.shard.pieces:
        return found
    whole = _read(first, MAX_ROWS if checks_purity else _ROWS_CALLED)
    batch, tally = whole.slice(0, _ROWS_CALLED), Tally()
    try:
        scored, groups = score_batch(batch, servable, first.score, tally)
        if checks_purity:
            found = found._replace(purity=check_rows(whole, Serving(servable, first.score)))
    except (EveryRowFails, ModelError) as e:
        return found._replace(failure=str(e))
    found = found._replace(saturated=int(tally.total(VALUES_SATURATED)))
    dead = {
        row: (group.step, reason)
        for group in groups
        for row, reason in zip(group.rows, group.reasons, strict=True)
    }
    failures = [reason for step, reason in dead.values() if step == "Predict"]
    if failures and not scored.num_rows:
        return found._replace(failure=failures[0])
    scores = iter(scored.select([column for _, column, _ in first.score.outputs]).to_pylist())
    rows = [
        {"row": row, "dead": dead[row][1]} if row in dead else {"row": row, **next(scores)}
        for row in range(batch.num_rows)
    ]
    return found._replace(rows=rows)


def _read(first: FirstRows, rows: int) -> pa.RecordBatch:
    """Return the first rows of the first file, at most some."""
    file_system, _ = resolve(first.read.root)
    read = first.read._replace(batch_rows=rows)
    try:
        batch = next(read_shard(file_system, first.shard, read), None)
    except CorruptFile as e:
        raise BadOptions([str(e)]) from e
    if batch is None:
        raise BadOptions([f"--input: {first.shard.partition} has no rows"])
    return batch.slice(0, rows)
