"""Objects of `--json` for a batch job, its plan and a model's first scores: docs/schemas."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from scoreline.lake.elements import UNKNOWN_ROWS
from scoreline.models.runtimes.model import Runtime
from scoreline.pipelines.options.batch import BatchSettings
from scoreline.pipelines.plan.batch import BatchPlan, Findings
from scoreline.pipelines.plan.preview import FirstScores
from scoreline.pipelines.report.summary import STEPS, Report, describe_failure
from scoreline.transforms.metrics import VALUES_SATURATED
from scoreline.transforms.scoring import ScoreSpec

_COUNTS = ("rows_in", "rows_scored", "rows_dead", "duplicate_keys")


def batch_fields(
    settings: BatchSettings, found: Findings, report: Report | None = None
) -> dict[str, Any]:
    """Return the results of a job; without a report, nothing was left to do."""
    states = found.states
    outcomes = states.failed if report is None else report.outcomes
    counters = {} if report is None else report.counters
    return {
        "output": settings.table.output,
        "model_digest": None if found.plan is None else found.plan.score.digest,
        "variant": variant_fields(None if found.plan is None else found.plan.score),
        "runtime": runtime_fields(found.runtime),
        "committed_before": len(states.committed),
        "outdated": len(states.outdated),
        "partitions": [outcome._asdict() for outcome in outcomes],
        **{name: 0 if report is None else report.total(name) for name in _COUNTS},
        "values_saturated": counters.get(VALUES_SATURATED.name, 0),
        "seconds": 0.0 if report is None else report.seconds,
        "workers": settings.workers,
        "step_ms": {
            step.name.removesuffix("_ms"): counters[step.name]
            for step in STEPS
            if step.name in counters
        },
        "problems": [
            describe_failure(outcome)
            for outcome in (states.failed if report is None else report.unpublished)
        ],
    }


def plan_fields(
    settings: BatchSettings, found: Findings, plan: BatchPlan, first: FirstScores
) -> dict[str, Any]:
    """Return the plan of a job, and the model's scores of the first rows."""
    states = found.states
    columns = [*fields_of(plan.stage.schema)]
    columns += [{"name": name, "type": "string"} for name in plan.commit.partition_columns]
    return {
        "output": settings.table.output,
        "input": settings.dataset.root,
        "input_format": plan.read.format,
        "input_version": found.input_version,
        "model": settings.model.path,
        "signature": settings.model.signature,
        "model_digest": plan.score.digest,
        "variant": variant_fields(plan.score),
        "runtime": runtime_fields(found.runtime),
        "partitions": list(plan.partitions),
        "committed_before": len(states.committed),
        "rows": None if plan.rows == UNKNOWN_ROWS else plan.rows,
        "shards": len(plan.shards),
        "size_bytes": sum(file.size_bytes for part in states.todo for file in part.files),
        "columns": columns,
        "partition_columns": list(plan.commit.partition_columns),
        "first_rows": first_fields(first),
        "problems": [
            *map(describe_failure, states.failed),
            *([f"The model fails: {first.failure}"] if first.failure else []),
        ],
    }


def variant_fields(score: ScoreSpec | None) -> dict[str, Any] | None:
    """Return which variant `auto:` chose; None for a model that was named itself."""
    choice = None if score is None else score.model.choice
    if choice is None:
        return None
    return {
        "name": choice.name,
        "parent_digest": choice.parent_digest,
        "passed_over": list(choice.passed_over),
    }


def runtime_fields(runtime: Runtime | None) -> dict[str, str] | None:
    """Return what calls the model; None if it was not loaded."""
    return None if runtime is None else runtime._asdict()


def first_fields(first: FirstScores) -> dict[str, Any]:
    """Return the sources of inputs in a dataset's first rows, and the model's scores of them."""
    return {
        "partition": first.partition,
        "inputs": [mapped._asdict() for mapped in first.mapped],
        "scores": list(first.rows),
        "failure": first.failure,
        "saturated": first.saturated,
        "purity": None if first.purity is None else first.purity._asdict(),
    }


def fields_of(schema: pa.Schema) -> list[dict[str, str]]:
    """Return the columns of a schema."""
    return [{"name": field.name, "type": str(field.type)} for field in schema]
