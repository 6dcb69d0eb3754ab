"""Footers of a dataset's files: schemas, rows and errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pyarrow as pa

from scoreline.lake.files.columns import top_columns
from scoreline.lake.files.data_file import Footer
from scoreline.lake.files.dataset import infer_schema, sample_columns
from scoreline.lake.files.examples import RAW_COLUMN
from scoreline.lake.files.formats import describe_files
from scoreline.lake.files.missing import Constant
from scoreline.lake.files.partitions import Partition
from scoreline.lake.files.read import DatasetSpec
from scoreline.lake.files.types import find_casts
from scoreline.lake.storage import resolve
from scoreline.models.signature import InputColumn
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.plan.dataset import Dataset
from scoreline.pipelines.plan.fit import Fit
from scoreline.pipelines.plan.missing import add_constant_fields, choose_constants, find_absent

_NO_SCHEMA = pa.schema([])


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileSchemas:
    """The footers of all files, and the schemas of their record batches.

    Attributes:
      footers: the footer of each file, by partition.
      unreadable: the errors of files, by partition.
      input_schema: the types that all files are read with; None for files that have types.
      schemas: each schema of record batches, and the partitions that have it.
      constants: columns that do not come from files.
      sampled: the columns that the first files have, if `--schema` is given.
    """

    footers: Mapping[str, Sequence[Footer]]
    unreadable: Mapping[str, str]
    input_schema: pa.Schema | None
    schemas: Mapping[pa.Schema, Sequence[str]]
    constants: tuple[Constant, ...] = ()
    sampled: pa.Schema = _NO_SCHEMA

    @property
    def read_schema(self) -> pa.Schema:
        """The schema of one record batch, before the selection of columns; empty without files."""
        return next(iter(self.schemas), _NO_SCHEMA)

    def dictionary_columns(self, inputs: Sequence[InputColumn]) -> tuple[str, ...]:
        """Return the text columns of inputs that all files have; they are read as dictionaries."""
        added = {constant.column for constant in self.constants}
        texts = {source.column for source in inputs if source.tensor.dtype == "string"} - added
        return tuple(
            sorted(
                column
                for column in texts
                if all(column in s.names and _is_text(s.field(column).type) for s in self.schemas)
            )
        )

    def dataset_spec(
        self,
        dataset: Dataset,
        columns: Sequence[str],
        batch_rows: int,
        dictionaries: Sequence[str],
        stored: Sequence[str] = (),
    ) -> DatasetSpec:
        """Return the spec to read shards as record batches.

        Args:
          dataset: the dataset of the files.
          columns: columns to read; `parent.child` is a field of a struct column.
          batch_rows: maximum rows of a record batch.
          dictionaries: text columns to read as dictionaries.
          stored: keys and kept columns.
        """
        return DatasetSpec(
            root=dataset.settings.root,
            format=dataset.format,
            columns=columns,
            top_columns=top_columns(self.read_schema, columns),
            batch_rows=batch_rows,
            dictionary_columns=tuple(dictionaries),
            schema=self.input_schema,
            constants=self.constants,
            limits=dataset.settings.limits,
            csv_escape=dataset.settings.csv_escape,
            is_inferred=dataset.given is None,
            casts=find_casts(self.schemas, top_columns(self.read_schema, columns)),
            stored=tuple(stored),
        )

    def with_constants(
        self,
        dataset: Dataset,
        fit: Fit,
        partitions: Sequence[Partition],
        problems: Problems,
        scores: pa.Schema = _NO_SCHEMA,
    ) -> FileSchemas:
        """Return a copy with the columns that do not come from files.

        `scores` is the schema of the table of scores, if it is there.
        """
        problems.add_all(find_absent(fit, self.sampled, self.schemas))
        missing = dataset.settings.allow_missing
        known = {field.name: field for field in [*scores, *(dataset.listing.schema or ())]}
        constants = choose_constants(
            missing, fit, partitions, self.schemas, problems, pa.schema(known.values())
        )
        schemas = add_constant_fields(self.schemas, constants)
        return dataclasses.replace(self, constants=constants, schemas=schemas)


def _is_text(data_type: pa.DataType) -> bool:
    return any(test(data_type) for test in (pa.types.is_string, pa.types.is_binary))


def read_files(
    dataset: Dataset, partitions: Sequence[Partition], problems: Problems
) -> FileSchemas | None:
    """Return the footers of files; None, with a problem, if there is no schema."""
    try:
        file_system, _ = resolve(dataset.settings.root)
        everywhere = dataset.listing.partitions
        input_schema = infer_schema(
            file_system, dataset.format, everywhere, dataset.given, dataset.settings.csv_escape
        )
    except (ValueError, OSError) as e:
        problems.add_error(e, "--input")
        return None
    sampled = _NO_SCHEMA
    if dataset.given is not None:
        escape = dataset.settings.csv_escape
        sampled = sample_columns(file_system, dataset.format, everywhere, escape)
    footers = _read_footers(dataset, partitions, input_schema)
    errors = {path: [f.error for f in found if f.error] for path, found in footers.items()}
    unreadable = {path: "; ".join(found) for path, found in errors.items() if found}
    readable = [p for p in partitions if p.path not in unreadable]
    problem = _find_inference_problem(dataset, readable, input_schema)
    if problem:
        problems.add(problem)
        return None
    return FileSchemas(
        footers=footers,
        unreadable=unreadable,
        input_schema=input_schema,
        schemas=_gather_schemas(readable, footers),
        sampled=sampled,
    )


def _find_inference_problem(
    dataset: Dataset, partitions: Sequence[Partition], schema: pa.Schema | None
) -> str:
    """Return why a schema is empty although there are files; "" if it is not."""
    if schema is None:
        return ""
    kinds = [field.type for field in schema if field.name != RAW_COLUMN]
    if not all(map(pa.types.is_null, kinds)):
        return ""
    if not any(partition.files for partition in partitions):
        return ""
    return (
        "--input: expected rows to infer a schema from, but the first files of "
        f"{dataset.listing.partitions[0].path} … are empty, or have a header or nulls only. Set "
        "--schema, or leave out partitions without rows"
    )


def _read_footers(
    dataset: Dataset, partitions: Sequence[Partition], schema: pa.Schema | None
) -> dict[str, list[Footer]]:
    """Return the footers of the files of partitions, by partition."""
    file_system, _ = resolve(dataset.settings.root)
    files = [file for p in partitions for file in p.files]
    escape = dataset.settings.csv_escape
    footers = iter(describe_files(file_system, dataset.format, files, schema, escape))
    return {p.path: [next(footers) for _ in p.files] for p in partitions}


def _gather_schemas(
    partitions: Sequence[Partition], footers: Mapping[str, Sequence[Footer]]
) -> dict[pa.Schema, list[str]]:
    """Return each distinct schema, and the partitions whose files have it."""
    schemas: dict[pa.Schema, list[str]] = {}
    for partition in partitions:
        for footer in footers[partition.path]:
            if footer.schema is not None:
                paths = schemas.setdefault(footer.schema.remove_metadata(), [])
                if partition.path not in paths[-1:]:
                    paths.append(partition.path)
    return schemas
