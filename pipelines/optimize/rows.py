"""The rows on which variants are compared with their parent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.lake.elements import UNKNOWN_ROWS, Shard
from scoreline.lake.files.data_file import CorruptFile
from scoreline.lake.files.dataset import MAX_BATCH_ROWS
from scoreline.lake.files.partitions import columns_of
from scoreline.lake.files.read import DatasetSpec, read_shard
from scoreline.lake.storage import resolve
from scoreline.models.model_spec import ModelSpec
from scoreline.models.signature import Signature
from scoreline.pipelines.options.optimize import Label, OptimizeSettings
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.options.rows import RuleSettings
from scoreline.pipelines.plan.dataset import find_dataset
from scoreline.pipelines.plan.fit import check_schemas, fit_model
from scoreline.pipelines.plan.rows import plan_rows
from scoreline.transforms.scoring import ScoreSpec

_SEED = 7


class Rows(NamedTuple):
    """Rows of some partitions, all with a label if one is named.

    Attributes:
      batch: the columns of keys, label, slices and inputs.
      score: the parent and its inputs; keys, label and slices are carried.
      keys: the columns that identify a row.
      partitions: the number of partitions that the rows are from.
      rows_found: the rows of these partitions; None if not all were counted.
      rows_without_label: rows that were left out, since their label is null.
    """

    batch: pa.RecordBatch
    score: ScoreSpec
    keys: tuple[str, ...]
    partitions: int
    rows_found: int | None
    rows_without_label: int


def read_rows(
    settings: OptimizeSettings, model: ModelSpec, signature: Signature, problems: Problems
) -> Rows:
    """Read up to `--max_rows` rows, spread evenly over the selected partitions.

    The same rows are chosen each time.

    Raises:
      BadOptions: there are no rows, they cannot be read, or an option names a missing thing.
    """
    dataset = find_dataset(settings.dataset, problems)
    partitions = columns_of(dataset.listing.partitions) if dataset else ()
    fit = fit_model(
        signature,
        settings.model,
        problems,
        rules=RuleSettings(),
        keys=settings.keys,
        has_records=dataset is not None and dataset.has_records,
        input_partitions=partitions,
    )
    usable = [p for p in dataset.listing.partitions if p.files] if dataset else []
    rows = plan_rows(dataset, usable, fit, MAX_BATCH_ROWS, problems)
    check_schemas(fit, rows.files.schemas, problems)
    problems.check()
    counts = [shard.rows for shard in rows.shards]
    total = None if UNKNOWN_ROWS in counts else sum(counts)
    try:
        batch = _read(rows.shards, rows.read, settings.max_rows, total)
    except CorruptFile as e:
        problems.add(f"--input: {e}")
        raise BadOptions(problems) from e
    if batch is None:
        problems.add("--input: expected rows to compare on, got none")
        raise BadOptions(problems)
    known = _prepare_label(batch, settings.label)
    return Rows(
        batch=known,
        score=fit.score_spec(model),
        keys=fit.keys,
        partitions=len(usable),
        rows_found=total,
        rows_without_label=batch.num_rows - known.num_rows,
    )


def _read(
    shards: Sequence[Shard], read: DatasetSpec, max_rows: int, total: int | None
) -> pa.RecordBatch | None:
    """Return a sample of rows; None if there are none.

    If the rows are counted, each is as likely to be in the sample. Otherwise it has the first rows
    of each shard.
    """
    chance = np.random.default_rng(_SEED)
    file_system, _ = resolve(read.root)
    each = math.ceil(max_rows / max(len(shards), 1))
    taken: list[pa.RecordBatch] = []
    for shard in shards:
        batches = read_shard(file_system, shard, read)
        if total is None:
            taken += _first(batches, each)
        elif total <= max_rows:
            taken += batches
        else:
            for batch in batches:
                is_drawn = chance.random(batch.num_rows) < max_rows / total
                taken.append(batch.filter(pa.array(is_drawn)))
    if not sum(batch.num_rows for batch in taken):
        return None
    table = pa.Table.from_batches(taken).unify_dictionaries().combine_chunks()
    return table.to_batches(max_chunksize=table.num_rows)[0]


def _first(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the first rows of batches."""
    for batch in batches:
        yield batch.slice(0, rows)
        rows -= batch.num_rows
        if rows <= 0:
            return


def _prepare_label(batch: pa.RecordBatch, label: Label | None) -> pa.RecordBatch:
    """Return the rows whose label is known, with the label compared as the option says."""
    if label is None or label.column not in batch.schema.names:
        return batch
    is_known = pc.invert(pc.is_null(batch.column(label.column), nan_is_null=True))
    batch = batch.filter(is_known)  # before the comparison: NaN is not below a bound
    column = batch.column(label.column)
    if pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    is_number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    if label.at_least is None or not is_number:
        return batch  # `read_truth` refuses what is no number
    index = batch.schema.get_field_index(label.column)
    return batch.set_column(index, label.column, pc.greater_equal(column, label.at_least))
