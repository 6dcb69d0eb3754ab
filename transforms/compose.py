"""Steps for users' own Beam jobs: the parts of the commands, without a command line."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.typehints.typehints import TupleConstraint

import scoreline
from scoreline.lake.elements import BatchKey, Outcome, Receipt
from scoreline.lake.files.partitions import parse_partition_path
from scoreline.lake.table.column_names import find_name_problems
from scoreline.lake.table.commit import CommitSpec
from scoreline.lake.table.scores import (
    create_table,
    find_table_problems,
    open_table,
)
from scoreline.lake.table.shard_writer import StageSpec
from scoreline.lake.table.types import key_type, storable_type
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature
from scoreline.transforms import commit, read, resume, score, stage
from scoreline.transforms.partitions import ToRead, Wanted, find_work
from scoreline.transforms.scoring import ScoreSpec
from scoreline.transforms.wanted import WantedModel, check_schema, name_list, refuse


class _CheckSchemaDoFn(beam.DoFn):
    def __init__(self, signature: Signature, spec: ScoreSpec) -> None:
        self._signature, self._spec = signature, spec

    def setup(self) -> None:
        self._checked: pa.Schema | None = None

    def process(self, element: Any) -> Sequence[Any]:
        if not isinstance(element, tuple) or len(element) != 2:
            raise TypeError(
                f"expected pairs of a key and a record batch, got {type(element).__name__}. Add a "
                "key to batches: batches | beam.Map(lambda batch: (None, batch))"
            )
        batch = element[1]
        if batch.num_rows and batch.schema != self._checked:
            check_schema(self._signature, self._spec, batch.schema)
            self._checked = batch.schema
        return (element,)


class Score(beam.PTransform):
    """Score record batches in any Beam pipeline.

    Takes pairs (key, pyarrow.RecordBatch), with keys of any type. Returns two collections:

    - `scores`: one batch per input batch, with the same key. Its columns are `keys` and `keep`, the
      outputs, and `model_digest`.
    - `dead_letters`: the rows that could not be scored, with the key of their batch. Their columns
      are their own, `_step` (what failed), `_reason`, `_row` (the index in the batch, from 0) and
      `_model_digest`.

    For each batch, rows in = rows scored + rows dead.

    The model is loaded when the pipeline is built, so a wrong path, digest or option is reported
    before the job starts. Each worker process loads it once. Workers check the schema of batches:
    of the first one, and of each one that differs from the last. With `schema`, the check also
    happens before the job starts.

    Args:
      model: path of the model, for the launcher and the workers.
      keys: columns that identify a row; they are copied to the scores.
      keep: further columns to copy; `parent.child` copies a field of a struct.
      schema: the schema of the batches, to check it before the job starts.
      signature, columns, fills, pads, pad_lengths, truncate, outputs, batch_rows, model_digest,
        op_libraries, tags, batch_timeout_s, allow_impure: see `scoreline.load`.

    Raises:
      FileNotFoundError, ValueError: see `scoreline.load`; raised when the step is applied.
    """

    def __init__(
        self,
        *,
        model: str | os.PathLike[str],
        keys: Sequence[str] = (),
        keep: Sequence[str] = (),
        schema: pa.Schema | None = None,
        signature: str = DEFAULT_SIGNATURE,
        columns: Mapping[str, str] | None = None,
        fills: Mapping[str, object] | None = None,
        pads: Mapping[str, object] | None = None,
        pad_lengths: Mapping[str, int] | None = None,
        truncate: Sequence[str] = (),
        outputs: Mapping[str, str] | Sequence[str] | None = None,
        batch_rows: int | None = None,
        model_digest: str | None = None,
        op_libraries: Sequence[str] = (),
        tags: Sequence[str] = (),
        batch_timeout_s: float | None = None,
        allow_impure: str | None = None,
    ) -> None:
        """Store the arguments; the model is not loaded yet."""
        super().__init__()
        self._wanted = WantedModel.of(
            model,
            signature=signature,
            columns=columns,
            fills=fills,
            pads=pads,
            pad_lengths=pad_lengths,
            truncate=truncate,
            outputs=outputs,
            batch_rows=batch_rows,
            digest=model_digest,
            op_libraries=tuple(op_libraries),
            tags=name_list("tags", tags),
            batch_timeout_s=batch_timeout_s,
            allow_impure=allow_impure,
        )
        self._carried = (*name_list("keys", keys), *name_list("keep", keep))
        self._schema = schema

    def expand(self, batches: beam.PCollection) -> beam.pvalue.DoOutputsTuple:
        """Load the model, fit it, and score in one fused step."""
        signature, spec = self._wanted.fit_here(self._carried)
        if self._schema is not None:
            check_schema(signature, spec, self._schema)
        element: Any = batches.element_type
        if not isinstance(element, TupleConstraint):
            element = tuple[Any, pa.RecordBatch]
        checked = batches | "CheckSchema" >> beam.ParDo(
            _CheckSchemaDoFn(signature, spec)
        ).with_output_types(element)
        return checked | "Score" >> score.Score(spec=spec)


class Partitions(NamedTuple):
    """The result of `ReadPartitions`.

    Attributes:
      batches: pairs (BatchKey, pyarrow.RecordBatch).
      staged: receipts of shards that an earlier run has staged, for CommitPartitions.
    """

    batches: beam.PCollection
    staged: beam.PCollection


class ReadPartitions(beam.PTransform):
    """Read partitions of a lake as record batches, for an atomic publication.

    Applied to a pipeline, it returns `batches`, pairs (BatchKey, pyarrow.RecordBatch), and
    `staged`, receipts of shards that an earlier, killed run has staged. Steps between it and
    StageScores must keep the keys and the order of batches. They must also pass on empty batches,
    because each shard ends with one. Rows that a step removes must become dead letters: a partition
    is published only if rows in = rows scored + rows dead.

    The dataset is listed when the pipeline is built. This reads names and footers, but no rows.

    Args:
      path: a folder of hive partitions (Parquet, TFRecord, CSV or JSON Lines), or a Delta table.
      columns: the columns to read; `parent.child` reads one field of a struct, and a partition
        column is added as text. By default all columns of the files.
      partitions: the partitions to read: `date=2024-01-01` or `date=2024-01-01..2024-01-31`. By
        default all.
      table: the table to publish to. Partitions with scores in it are left out, and so are staged
        shards.
      work: everything that changes the scores, besides the input files: the model's digest,
        options, a version of your own steps. It identifies the work, so that a run finds what
        earlier runs have staged and committed.
      replace: whether to read partitions that have scores of other work, to replace them.
      batch_rows: maximum rows of a batch. By default 65,536, or as many as fit in about 64 MiB.

    Attributes:
      fingerprints: fingerprint of each partition's files by path, for CommitPartitions.
      committed: paths of the partitions that were left out.

    Raises:
      ValueError: there is no such partition, a file cannot be read, or a column is missing.
      OSError: the dataset cannot be listed.
    """

    def __init__(
        self,
        path: str,
        *,
        columns: Sequence[str] | None = None,
        partitions: Sequence[str] = (),
        table: str | None = None,
        work: Mapping[str, object] | None = None,
        replace: bool = False,
        batch_rows: int | None = None,
    ) -> None:
        """Store the arguments; the dataset is not listed yet."""
        super().__init__()
        self._wanted = Wanted(
            path=path,
            partitions=name_list("partitions", partitions),
            columns=None if columns is None else name_list("columns", columns),
            table=table,
            work=dict(work or {}),
            replace=replace,
            batch_rows=batch_rows,
        )

    @functools.cached_property
    def _found(self) -> ToRead:
        return find_work(self._wanted)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the partitions' files, by path."""
        return self._found.fingerprints

    @property
    def committed(self) -> list[str]:
        """Paths of the partitions that are left out, because the table has their scores."""
        return self._found.committed

    def expand(self, root: beam.pvalue.PBegin) -> Partitions:
        """Spread shards over the workers, and read them."""
        shards = root | "MatchShards" >> read.MatchShards(shards=self._found.shards)
        if self._wanted.table is None:
            staged = root | "NothingStaged" >> beam.Create([]).with_output_types(Receipt)
        else:
            found = shards | "SkipStaged" >> resume.SkipStaged(output=self._wanted.table)
            shards, staged = found.shards, found.receipts
        batches = shards | "Read" >> read.ReadRecordBatches(dataset=self._found.dataset)
        return Partitions(batches, staged)


class _PrepareDoFn(beam.DoFn):
    """Creates the table before the first file is staged; selects and orders its columns."""

    def __init__(self, table: str, schema: pa.Schema) -> None:
        self._table, self._schema = table, schema

    def setup(self) -> None:
        self._is_there = False

    def process(self, element: tuple[BatchKey, pa.RecordBatch]) -> Any:
        key, batch = element
        if not self._is_there:
            self._create([column for column, _ in parse_partition_path(key.shard.partition)])
            self._is_there = True
        if batch.num_rows:
            lacking = [name for name in self._schema.names if name not in batch.schema.names]
            if lacking:
                refuse([f"schema: the scores have no column {', '.join(lacking)}"])
            batch = batch.select(self._schema.names)
        yield key, batch

    def _create(self, partition_columns: Sequence[str]) -> None:
        there = open_table(self._table)
        if there is None:
            names = find_name_problems([*self._schema.names, *partition_columns])
            if names:
                refuse([f"schema: {problem}. Rename one" for problem in names])
            create_table(self._table, self._schema, partition_columns)
            return
        problems = find_table_problems(there, self._schema, partition_columns)
        if problems:
            refuse(problems)


class StageScores(beam.PTransform):
    """Write scores to files of a table, invisible to readers; return one receipt per file.

    Takes the result of `Score` after `ReadPartitions`: scores and dead letters together
    (`scored | StageScores(…)`), or only a PCollection of scores, if no row can fail. Dead letters
    go to the folder `<table>_dead_letters`. The table is created if it does not exist.

    Args:
      table: the path or URI of the Delta table, partitioned like the input.
      schema: columns and types of the table, without the partition columns; the scores must have
        them. Types that Delta Lake lacks become the next larger ones.
      keys: the columns that identify a row; their statistics allow readers to skip files.

    Raises:
      ValueError: the schema lacks a key, or has a type that Delta tables do not support,
        or a key has one whose values cannot be counted.
    """

    def __init__(self, *, table: str, schema: pa.Schema, keys: Sequence[str]) -> None:
        """Check the schema; no file is written yet."""
        super().__init__()
        self._table = table
        self._schema = pa.schema([(f.name, storable_type(f.type)) for f in schema])
        self._keys = name_list("keys", keys)
        unknown = [key for key in self._keys if key not in schema.names]
        if unknown:
            raise ValueError(
                f"keys: expected columns of the schema, got {', '.join(unknown)}; it has "
                f"{', '.join(schema.names)}"
            )
        for key in self._keys:
            key_type(schema.field(key).type)

    def _extract_input_pvalues(self, pvalueish: Any) -> Any:
        """Accept a step's tagged outputs; Beam itself supports only tuples and dicts of them."""
        if isinstance(pvalueish, beam.pvalue.DoOutputsTuple):
            pvalueish = {"scores": pvalueish.scores, score.DEAD_LETTERS: pvalueish.dead_letters}
        return super()._extract_input_pvalues(pvalueish)

    def expand(self, scored: Any) -> beam.PCollection:
        """Write in the bundle that holds a shard's batches."""
        scores = scored["scores"] if isinstance(scored, dict) else scored
        is_integer = len(self._keys) == 1 and pa.types.is_integer(
            self._schema.field(self._keys[0]).type
        )
        spec = StageSpec(
            self._table, self._schema, self._keys, self._keys[0] if is_integer else None
        )
        receipts = (
            scores
            | "PrepareTable"
            >> beam.ParDo(_PrepareDoFn(self._table, self._schema)).with_output_types(
                tuple[BatchKey, pa.RecordBatch]
            )
            | "StageScores" >> stage.StageScores(spec=spec)
        )
        if not isinstance(scored, dict):
            return receipts
        dead = scored[score.DEAD_LETTERS] | "StageDeadLetters" >> stage.StageDeadLetters(
            output=self._table
        )
        return (receipts, dead) | "MergeReceipts" >> beam.Flatten()


class CommitPartitions(beam.PTransform):
    """Publish partitions in a Delta table: one atomic transaction per partition.

    Takes the receipts of `StageScores`, flattened with `staged` of `ReadPartitions`. Returns one
    Outcome per partition. Its `state` is committed, already_committed, conflict or failed, and
    `reason` has the cause. A partition is published only if every shard has a receipt, rows in =
    rows scored + rows dead, and no other run has changed it meanwhile. Commits are idempotent: a
    retried bundle commits nothing twice.

    Args:
      table: the table of the receipts.
      keys: the columns that identify a row; the outcome has the number of duplicates.
      max_dead_letter_ratio: maximum share of dead letters in a published partition.
      fingerprints: those of `ReadPartitions`; they are recorded, so that a later run detects
        changed input.
      metadata: further facts to record in each transaction, such as the model's digest.
    """

    def __init__(
        self,
        *,
        table: str,
        keys: Sequence[str],
        max_dead_letter_ratio: float = 0.01,
        fingerprints: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Store the arguments; no file is written yet."""
        super().__init__()
        self._spec = CommitSpec(
            output=table,
            partition_columns=(),  # StageScores creates the table; paths have the columns
            keys=name_list("keys", keys),
            metadata={
                "model_digest": "",
                "signature": "",
                **(metadata or {}),
                "tool_version": scoreline.__version__,
                "job_id": uuid.uuid4().hex,
            },
            fingerprints=dict(fingerprints or {}),
            max_dead_letter_ratio=max_dead_letter_ratio,
        )

    def expand(self, receipts: beam.PCollection) -> beam.PCollection:
        """Group receipts by partition and commit."""
        return receipts | "Commit" >> commit.CommitPartitions(spec=self._spec)


__all__ = [
    "CommitPartitions",
    "Outcome",
    "Partitions",
    "ReadPartitions",
    "Score",
    "StageScores",
]
