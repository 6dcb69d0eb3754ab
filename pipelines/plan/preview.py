"""The first rows of a dataset, read and scored as a job would."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from scoreline.lake.files.columns import top_columns
from scoreline.lake.files.data_file import CorruptFile, Footer
from scoreline.lake.files.missing import Constant
from scoreline.lake.files.partitions import Partition
from scoreline.lake.files.read import DatasetSpec, read_shard
from scoreline.lake.files.shards import plan_shards
from scoreline.lake.storage import resolve
from scoreline.models.errors import first_lines
from scoreline.models.process import ModelProcess
from scoreline.models.servable import Servable
from scoreline.models.signature import InputColumn
from scoreline.pipelines.options.batch import BatchScoringSettings
from scoreline.pipelines.options.problems import BadOptions
from scoreline.pipelines.plan.dataset import (
    add_constant_fields,
    choose_constants,
    choose_schema,
    given_schema,
    read_footers,
    select_partitions,
)
from scoreline.pipelines.plan.fit import choose_inputs, gather_schemas
from scoreline.pipelines.plan.input_table import Mapped, map_inputs
from scoreline.transforms.features import build_features


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstPartition:
    """The first of the selected partitions that has files.

    Attributes:
      partition: which it is.
      format: the dataset's.
      footers: of its files.
      input_schema: the types they are read as; None for files that say their own.
      schema: that of its record batches.
      constants: columns to add where files lack them.
    """

    partition: Partition
    format: str
    footers: list[Footer]
    input_schema: pa.Schema | None
    schema: pa.Schema
    constants: tuple[Constant, ...] = ()

    def with_constants(
        self, settings: BatchScoringSettings, inputs: Sequence[InputColumn]
    ) -> FirstPartition:
        """Return the partition with the columns that inputs take and files lack.

        Raises:
          BadOptions: a column has no value here.
        """
        problems: list[str] = []
        held = gather_schemas([self.partition], {self.partition.path: self.footers})
        constants = choose_constants(settings, inputs, [self.partition], held, problems)
        if problems:
            raise BadOptions(problems)
        schema = next(iter(add_constant_fields(held, constants)))
        return dataclasses.replace(self, schema=schema, constants=constants)

    def read(
        self, settings: BatchScoringSettings, inputs: Sequence[InputColumn], rows: int
    ) -> pa.RecordBatch:
        """Return the first rows, with the columns that the inputs take.

        Raises:
          BadOptions: there are none, or they cannot be read.
        """
        columns = tuple(dict.fromkeys(source.column for source in inputs))
        dataset = DatasetSpec(
            root=settings.input,
            columns=columns,
            top_columns=top_columns(self.schema, columns),
            batch_rows=rows,
            format=self.format,
            schema=self.input_schema,
            constants=self.constants,
            limits=settings.limits,
        )
        file_system, _ = resolve(settings.input)
        (shard, *_) = plan_shards(self.partition, self.footers, "", "")
        try:
            batch = next(read_shard(file_system, shard, dataset), None)
        except CorruptFile as e:
            raise BadOptions([str(e)]) from e
        if batch is None:
            raise BadOptions([f"--input: {self.partition.path} has no rows"])
        return batch.slice(0, rows)


def open_first_partition(settings: BatchScoringSettings) -> FirstPartition:
    """Find the first selected partition with files, and read its schema.

    Raises:
      BadOptions: there is none, or its files cannot be read.
    """
    problems: list[str] = []
    listing = select_partitions(settings, problems)
    given = given_schema(settings, listing.format, problems) if listing.partitions else None
    if problems:
        raise BadOptions(problems)
    usable = [p for p in listing.partitions if p.files and not p.problems]
    if not usable:
        raise BadOptions([f"--input: no partition of {settings.input} has files"])
    schema = choose_schema(settings, listing, given)
    footers = read_footers(settings, listing, usable[:1], schema)[usable[0].path]
    errors = [footer.error for footer in footers if footer.error]
    held = gather_schemas(usable[:1], {usable[0].path: footers})
    if errors or not held:
        raise BadOptions(errors or [f"--input: {usable[0].path} has no rows"])
    return FirstPartition(
        partition=usable[0],
        format=listing.format,
        footers=footers,
        input_schema=schema,
        schema=next(iter(held)),
    )


_ROWS_CALLED = 5


class FirstScores(NamedTuple):
    """What came of calling a model on the first rows of the first selected partition.

    Attributes:
      partition: the partition that has them; "" when none was looked at.
      mapped: how each input is fed from it.
      rows: the rows' outputs, or why they are dead letters; none when columns do not fit.
      failure: why the model could not be called; "" when it could.
    """

    partition: str = ""
    mapped: Sequence[Mapped] = ()
    rows: Sequence[dict[str, Any]] = ()
    failure: str = ""

    @property
    def fit(self) -> bool:
        """Whether every input has a column that fits."""
        return not any(row.problem for row in self.mapped)


def score_first_rows(
    servable: Servable | ModelProcess, settings: BatchScoringSettings
) -> FirstScores:
    """Feed a model the first rows as a job would, and return what it says of them.

    Raises:
      BadOptions: there are no rows, they cannot be read, or options name what is not there.
    """
    first = open_first_partition(settings)
    problems: list[str] = []
    inputs = choose_inputs(settings, servable.signature, problems, first.format)
    if problems:
        raise BadOptions(problems)
    first = first.with_constants(settings, inputs)
    mapped = map_inputs(servable.signature, inputs, first.schema)
    found = FirstScores(first.partition.path, mapped)
    if not found.fit:
        return found
    batch = first.read(settings, inputs, _ROWS_CALLED)
    features = build_features(batch, inputs)
    try:
        outputs = servable.predict(
            features.columns,
            features.alive.rows,
            list(settings.outputs or ()) or None,
            sources=inputs,
        )
    except Exception as e:  # noqa: BLE001  whatever the model raises is what is to be shown
        return found._replace(failure=f"{type(e).__name__}: {first_lines(e)}")
    scores = pa.RecordBatch.from_pydict(outputs).to_pylist()
    dead = [] if features.dead is None else zip(*features.dead[:2], strict=True)
    reasons = [{"row": row, "dead": reason} for row, reason in dead]
    positions = features.alive.positions.tolist()
    rows = [{"row": row, **found} for row, found in zip(positions, scores, strict=False)]
    return found._replace(rows=sorted([*rows, *reasons], key=lambda r: r["row"]))
