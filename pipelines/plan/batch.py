"""The plan of a batch job: partitions, schema and shards, all checked before the first row."""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import Sequence

import pyarrow as pa
from deltalake import DeltaTable

from scoreline import __version__
from scoreline.lake.elements import UNKNOWN_ROWS, Shard
from scoreline.lake.files.dataset import choose_batch_rows
from scoreline.lake.files.read import DatasetSpec
from scoreline.lake.files.shards import plan_shards
from scoreline.lake.table.commit import CommitSpec
from scoreline.lake.table.scores import find_table_problems, live_files
from scoreline.lake.table.shard_writer import StageSpec
from scoreline.models.model_spec import ModelSpec
from scoreline.models.runtimes.model import Runtime
from scoreline.models.suggest import paths_of
from scoreline.pipelines.doing import doing
from scoreline.pipelines.options.batch import BatchSettings
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.plan.dataset import Dataset, find_dataset
from scoreline.pipelines.plan.files import FileSchemas, read_files
from scoreline.pipelines.plan.fit import Fit, check_schemas, fit_model
from scoreline.pipelines.plan.model import SignatureReader, find_model, load_signature
from scoreline.pipelines.plan.states import States, find_states
from scoreline.pipelines.plan.table import check_writable, find_table
from scoreline.transforms.purity import Purity
from scoreline.transforms.scoring import ScoreSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The parts of a batch job's graph: one finished object per step.

    Attributes:
      shards: the shards to read, unless an earlier run has staged them.
      read: the columns and format of shards.
      score: the model and its inputs.
      stage: the content of staged files.
      commit: the parameters of commits.
    """

    shards: Sequence[Shard]
    read: DatasetSpec
    score: ScoreSpec
    stage: StageSpec
    commit: CommitSpec

    @property
    def job_id(self) -> str:
        """The unique id of this job."""
        return self.commit.metadata["job_id"]

    @property
    def rows(self) -> int:
        """Rows to score, or UNKNOWN_ROWS."""
        counts = [shard.rows for shard in self.shards]
        return UNKNOWN_ROWS if UNKNOWN_ROWS in counts else sum(counts)

    @property
    def partitions(self) -> list[str]:
        """The partitions to score, by path."""
        return sorted({shard.partition for shard in self.shards})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """The findings before the first row, and the plan.

    Attributes:
      states: the state of each selected partition.
      has_table: whether the table exists already.
      input_version: the version of the input Delta table; None for plain folders.
      passed_over: files of the input that belong to no partition.
      read_schema: the schema of record batches; None if nothing is left to do.
      fit: the fit of the model to the columns; None if nothing is left to do.
      plan: the work that is left; None if nothing is left.
      purity: the result of the purity check; None before it.
      runtime: what calls the model; None if nothing is left to do.
    """

    states: States
    has_table: bool = False
    input_version: int | None = None
    passed_over: Sequence[str] = ()
    read_schema: pa.Schema | None = None
    fit: Fit | None = None
    plan: BatchPlan | None = None
    purity: Purity | None = None
    runtime: Runtime | None = None


def make_plan(
    settings: BatchSettings, read_signature: SignatureReader, problems: Problems
) -> Findings:
    """Plan a job, and check everything that can be checked before the first row.

    Args:
      settings: the settings of the job.
      read_signature: loads the model and calls it once. It is used only if there may be partitions
        to score.
      problems: the problems so far; further ones are added.

    Raises:
      BadOptions: lists all problems of options, dataset, model and table.
    """
    with doing(f"opening the table {settings.table.output}"):
        table = find_table(settings.table.output, problems)
        stale = table is not None and settings.table.reprocess == "stale"
        scored = list(live_files(table)) if table is not None and stale else ()
    with doing(f"listing the input {settings.dataset.root}"):
        dataset = find_dataset(settings.dataset, problems, scored)
    with doing(f"reading the files of the model {settings.model.path}"):
        model = find_model(settings.model, problems, settings.concurrent_calls)
    with doing(f"comparing the input with the table {settings.table.output}"):
        states = find_states(settings, dataset, model, table) if dataset else None
    fit = files = None
    if states is None or states.todo:
        check_writable(settings.table.output, problems)
        fit = _fit(settings, states, model, read_signature, problems)
    if dataset is None or states is None:
        raise BadOptions(problems)
    if not states.selected:
        problems.add(
            f"--input: expected a partition in {settings.dataset.root}, got none. Name one whose "
            "folder was removed with --partitions to publish it empty"
        )
        raise BadOptions(problems)
    if states.todo:
        with doing(f"reading schemas and footers of {settings.dataset.root}"):
            files = read_files(dataset, states.todo, problems)
    found = Findings(
        states=states,
        has_table=table is not None,
        input_version=dataset.listing.version,
        passed_over=dataset.listing.passed_over,
    )
    if fit and files:
        found = _plan_work(settings, dataset, model, table, fit, files, found, problems)
    problems.check()
    return found


def _fit(
    settings: BatchSettings,
    states: States | None,
    model: ModelSpec | None,
    read_signature: SignatureReader,
    problems: Problems,
) -> Fit | None:
    signature = load_signature(model, read_signature, problems)
    if signature is None:
        return None
    return fit_model(
        signature,
        settings.model,
        problems,
        keys=settings.keys,
        rules=settings.rules,
        partition_columns=states.partition_columns if states else (),
        has_records=states is not None and states.has_records,
        input_partitions=states.partition_columns if states else (),
    )


def _plan_work(
    settings: BatchSettings,
    dataset: Dataset,
    model: ModelSpec | None,
    table: DeltaTable | None,
    fit: Fit,
    files: FileSchemas,
    found: Findings,
    problems: Problems,
) -> Findings:
    """Fit the model to files and table, and return the findings with the plan."""
    states = found.states.with_failures(files.unreadable)
    found = dataclasses.replace(found, states=states)
    if not states.todo:
        return found
    fit = dataclasses.replace(fit, others=(*fit.others, *paths_of(files.sampled)))
    scores = pa.schema(table.schema().to_arrow()) if table else pa.schema([])
    files = files.with_constants(dataset, fit, states.todo, problems, scores)
    schema = _scores_schema(settings, fit, files, scores, problems)
    problems.add_all(fit.find_name_problems(states.partition_columns))
    problems.add_all(fit.find_letter_problems())
    if table and schema is not None:
        problems.add_all(find_table_problems(table, schema, states.partition_columns))
    if problems or schema is None or model is None:
        return found
    plan = BatchPlan(
        shards=_find_shards(states, files),
        read=files.dataset_spec(
            dataset,
            fit.columns,
            settings.model.batch_rows
            or choose_batch_rows(itertools.chain.from_iterable(files.footers.values())),
            files.dictionary_columns(fit.inputs),
            fit.carried,
        ),
        score=fit.score_spec(model),
        stage=StageSpec(
            output=settings.table.output,
            schema=schema,
            statistics=fit.keys,
            integer_key=_integer_key(fit.keys, schema),
        ),
        commit=_commit_spec(settings, found, model, fit),
    )
    return dataclasses.replace(found, fit=fit, read_schema=files.read_schema, plan=plan)


def _find_shards(states: States, files: FileSchemas) -> list[Shard]:
    return [
        shard
        for p in states.todo
        for shard in plan_shards(
            p, files.footers[p.path], states.runs[p.path], states.held.get(p.path, "")
        )
    ]


def _scores_schema(
    settings: BatchSettings, fit: Fit, files: FileSchemas, known: pa.Schema, problems: Problems
) -> pa.Schema | None:
    """Return columns and types of the table without partition columns; None if they are wrong.

    `known` is the schema of the table, if it is there.
    """
    copied = check_schemas(fit, files.schemas, problems, known=known)
    if copied is None:
        return None
    if not files.schemas and not known.names:
        problems.add(
            f"--input: expected rows, got none: the partitions to score in {settings.dataset.root} "
            "have no files, so the columns of the output are unknown"
        )
        return None
    try:
        return fit.scores_schema(copied)
    except ValueError as e:
        what = str(e).partition(". ")[0]
        problems.add(f"--outputs: {what}. Leave it out with --outputs")
        return None


def _commit_spec(
    settings: BatchSettings, found: Findings, model: ModelSpec, fit: Fit
) -> CommitSpec:
    version = {} if found.input_version is None else {"input_version": str(found.input_version)}
    lineage = {} if model.choice is None else {"parent_digest": model.choice.parent_digest}
    return CommitSpec(
        output=settings.table.output,
        partition_columns=found.states.partition_columns,
        keys=fit.keys,
        metadata={
            "model_digest": model.digest,
            "signature": model.signature,
            "tool_version": __version__,
            "job_id": uuid.uuid4().hex,
            **version,
            **lineage,
        },
        fingerprints={p.path: p.fingerprint for p in found.states.todo},
        max_dead_letter_ratio=settings.table.max_dead_letter_ratio,
    )


def _integer_key(keys: Sequence[str], schema: pa.Schema) -> str | None:
    if len(keys) == 1 and pa.types.is_integer(schema.field(keys[0]).type):
        return keys[0]
    return None
