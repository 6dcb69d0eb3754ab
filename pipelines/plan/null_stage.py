"""A plan in which one stage does nothing: what would the others then hold?"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TypeVar

from scoreline.lake.elements import UNKNOWN_ROWS
from scoreline.pipelines.plan.batch import BatchPlan
from scoreline.pipelines.plan.stream import StreamPlan
from scoreline.transforms.null_stages import OF_BATCH, OF_STREAM
from scoreline.transforms.scoring import ScoreSpec

Plan = TypeVar("Plan", BatchPlan, StreamPlan)


def without_stage(plan: Plan, stage: str) -> Plan:
    """Return a plan whose given stage does nothing; a second call takes another stage away.

    The scores of such a job are wrong, or not published. So `model_digest` in its rows and commits
    names the stages, its staged files are never taken for those of another run, and models are not
    swapped. Use tables, topics and groups of the test's own all the same.

    - read (batch): the first record batch of a shard is repeated for the rows of the shard.
    - decode (stream): the first decoded columns are repeated, beside the real raw records.
    - features: the features of a worker's first batch are repeated.
    - predict: the model is loaded, and answers zeros and empty strings without a call.
    - send (stream): scores are encoded, and neither sent nor added to a table; their offsets are
      committed. Dead letters are sent.
    - stage (batch): rows are counted, and not written. Then nothing can be committed either.
    - commit (batch): each partition fails, with this reason. Of a stream: the transactions of
      `exactly_once` are left out, and offsets are committed as at least once.

    Polling, encoding and the offsets of a stream cannot be left out: its load arrives there, and
    the test counts by them.

    Raises:
      ValueError: the plan has no such stage, or does not know the rows of a shard to repeat.
    """
    if isinstance(plan, StreamPlan):
        return _of_stream(plan, stage)
    return _of_batch(plan, stage)


def _of_batch(plan: BatchPlan, stage: str) -> BatchPlan:
    _check(stage, OF_BATCH)
    read, staged, commit = plan.read, plan.stage, plan.commit
    if stage == "read":
        if any(shard.rows == UNKNOWN_ROWS for shard in plan.shards):
            raise ValueError(
                "expected files that record their number of rows, such as Parquet, to leave out "
                f"the stage read, got {plan.read.format}. Convert the input, or choose another "
                "stage"
            )
        read = read._replace(repeats_first=True)
    if stage == "stage":
        staged = staged._replace(writes_nothing=True)
    if stage in ("stage", "commit"):
        commit = commit._replace(null_stage=stage)
    score = _score(plan.score, stage)
    return dataclasses.replace(
        plan,
        shards=[shard._replace(run_id=_other_id(shard.run_id, stage)) for shard in plan.shards],
        read=read,
        score=score,
        stage=staged,
        commit=commit._replace(metadata={**commit.metadata, "model_digest": score.digest}),
    )


def _of_stream(plan: StreamPlan, stage: str) -> StreamPlan:
    _check(stage, OF_STREAM)
    decode, write = plan.decode, plan.write
    if stage == "decode":
        decode = dataclasses.replace(decode, repeats_first=True)
    if stage == "send":
        write = dataclasses.replace(write, sends_nothing=True)
    if stage == "commit":
        if not write.exactly_once:
            raise ValueError(
                "expected a stream with exactly_once to leave out its transactions, got one that "
                "only commits offsets, which the test needs. Choose another stage"
            )
        write = dataclasses.replace(write, exactly_once=False)
    score = _score(plan.score, stage)
    return dataclasses.replace(plan, decode=decode, score=score, swap=None, write=write)


def _score(score: ScoreSpec, stage: str) -> ScoreSpec:
    """Name the stage; what a null model answers need not keep the rules."""
    rules = () if stage == "predict" else score.rules
    return dataclasses.replace(score, null_stages=(*score.null_stages, stage), rules=rules)


def _check(stage: str, known: tuple[str, ...]) -> None:
    if stage not in known:
        raise ValueError(f"expected a stage of {', '.join(known)} to leave out, got '{stage}'")


def _other_id(run_id: str, stage: str) -> str:
    return hashlib.sha256(f"{run_id} without {stage}".encode()).hexdigest()[: len(run_id)]
