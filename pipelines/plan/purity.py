"""The purity check of a batch job: on its first rows, before the table is touched."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping

import pyarrow as pa

from scoreline.lake.files.read import read_shard
from scoreline.lake.storage import resolve
from scoreline.models.errors import ModelError
from scoreline.models.purity import MAX_ROWS
from scoreline.models.servable import Servable
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.plan.batch import BatchPlan, Findings
from scoreline.transforms.purity import Purity, check_rows, join_batches
from scoreline.transforms.scoring import Serving

# Shards that are opened to find rows: most have some, and a start must not read a lake.
_MAX_SHARDS = 8


def check_plan(found: Findings, servable: Servable, allowed: str, problems: Problems) -> Findings:
    """Check that the score of each of the first rows is its own; return the findings with it.

    Args:
      found: the findings with the plan.
      servable: the loaded model.
      allowed: the reason to go on with an impure model, which commits record; "" for none.
      problems: the problems so far.

    Raises:
      BadOptions: the model is impure, and there is no reason.
    """
    plan = found.plan
    if plan is None:
        return found
    try:
        rows = first_rows(plan)
        purity = check_rows(rows, Serving(servable, plan.score)) if rows else Purity()
    except ModelError as e:
        problems.add(str(e))
        raise BadOptions(problems) from e
    if purity.problem and not allowed:
        problems.add(purity.problem)
        raise BadOptions(problems)
    facts = impurity_facts(purity, allowed)
    commit = plan.commit._replace(metadata={**plan.commit.metadata, **facts})
    return dataclasses.replace(found, plan=dataclasses.replace(plan, commit=commit), purity=purity)


def impurity_facts(purity: Purity, allowed: str) -> Mapping[str, str]:
    """Return what a commit records of a model that is allowed to be impure."""
    if not allowed:
        return {}
    return {"allow_impure": allowed, "impurity": purity.problem.partition("; or go on")[0]}


def describe_allowed(found: Findings, plan: BatchPlan) -> str:
    """Return what is wrong with the plan's model, and why it is allowed; "" if nothing is."""
    facts = plan.commit.metadata
    if found.purity is not None and not found.purity.rows:
        return (
            "The model was not checked on rows: none of the first rows could be read and scored. "
            "Check it on others: scoreline inspect --input … --partitions …"
        )
    if not facts.get("impurity"):
        return ""
    return f"{facts['impurity']}. Allowed: {facts['allow_impure']}"


def first_rows(plan: BatchPlan) -> pa.RecordBatch | None:
    """Return the first rows of a plan, at most 1,024; None if the first shards have none.

    Rows that cannot be read are left to the job, which fails their partition alone.
    """
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in _read(plan):
        if held and batch.schema != held[0].schema:
            break
        held.append(batch.slice(0, MAX_ROWS - rows))
        rows += held[-1].num_rows
        if rows >= MAX_ROWS:
            break
    return join_batches(held) if rows else None


def _read(plan: BatchPlan) -> Iterator[pa.RecordBatch]:
    file_system, _ = resolve(plan.read.root)
    read = plan.read._replace(batch_rows=MAX_ROWS)
    for shard in itertools.islice((s for s in plan.shards if s.pieces), _MAX_SHARDS):
        try:
            yield from (b for b in read_shard(file_system, shard, read) if b.num_rows)
        except Exception:  # noqa: BLE001, S112  any error of a file is the job's to report
            continue
