"""The rows of some partitions of a dataset, without a table of scores: their shards and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scoreline.lake.elements import Shard
from scoreline.lake.files.partitions import Partition
from scoreline.lake.files.read import DatasetSpec
from scoreline.lake.files.shards import plan_shards
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.plan.dataset import Dataset
from scoreline.pipelines.plan.files import FileSchemas, read_files
from scoreline.pipelines.plan.fit import Fit


class PlannedRows(NamedTuple):
    """The rows of some partitions.

    Attributes:
      shards: their shards.
      read: the spec to read a shard.
      files: the footers of their files.
    """

    shards: Sequence[Shard]
    read: DatasetSpec
    files: FileSchemas


def plan_rows(
    dataset: Dataset | None,
    partitions: Sequence[Partition],
    fit: Fit,
    batch_rows: int,
    problems: Problems,
) -> PlannedRows:
    """Return the rows of partitions that have files.

    Args:
      dataset: the dataset; None if it has a problem, which is reported then.
      partitions: the partitions to read.
      fit: the fit of the model to the columns.
      batch_rows: maximum rows of a record batch.
      problems: the problems so far; further ones are added.

    Raises:
      BadOptions: there are no rows, they cannot be read, or an option names a missing thing.
    """
    files = read_files(dataset, partitions, problems) if dataset and partitions else None
    if dataset and files:
        problems.add_all(files.unreadable.values())
        if not files.unreadable and not files.schemas:
            problems.add(f"--input: {', '.join(p.path for p in partitions)} has no rows")
        files = files.with_constants(dataset, fit, partitions, problems)
    if problems or not (dataset and files):
        raise BadOptions(problems)
    shards = [
        shard
        for partition in partitions
        for shard in plan_shards(partition, files.footers[partition.path], "", "")
    ]
    texts = files.dictionary_columns(fit.inputs)
    read = files.dataset_spec(dataset, fit.columns, batch_rows, texts, fit.carried)
    return PlannedRows(shards, read, files)
