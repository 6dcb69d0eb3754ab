"""The first rows of a dataset, read as a job would read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pyarrow as pa

from models.columns import top_columns
from models.signature import InputColumn
from pipelines.checks import gather_schemas
from pipelines.inputs import (
    add_constant_fields,
    choose_constants,
    choose_schema,
    given_schema,
    read_footers,
    select_partitions,
)
from pipelines.settings import BadOptions, BatchScoringSettings
from transforms.io.constants import Constant
from transforms.io.files import CorruptFile, Footer
from transforms.io.filesystems import resolve
from transforms.io.partitions import Partition
from transforms.io.read import ReadRecordBatches, read_shard
from transforms.io.shards import plan_shards


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
        read = ReadRecordBatches(
            root=settings.input,
            columns=columns,
            top_columns=top_columns(self.schema, columns),
            dictionary_columns=(),
            batch_rows=rows,
            format=self.format,
            schema=self.input_schema,
            constants=self.constants,
            limits=settings.limits,
        )
        file_system, _ = resolve(settings.input)
        (shard, *_) = plan_shards(self.partition, self.footers, "", "")
        try:
            batch = next(read_shard(file_system, shard, read), None)
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
