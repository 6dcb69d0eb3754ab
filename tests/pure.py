"""Scores rows without Beam: plans, reads, scores and stages with the functions of the steps."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from scoreline.lake.elements import BatchKey
from scoreline.lake.files.read import read_shard
from scoreline.lake.storage import resolve
from scoreline.lake.table.shard_writer import open_scores
from scoreline.pipelines.score_batch import prepare
from scoreline.transforms.metrics import Tally
from scoreline.transforms.scoring import score_batch


def score_without_job(argv: Sequence[str]) -> pa.Table:
    """Return the rows that `scoreline batch` would publish, from its staged files."""
    plan = prepare(argv).found.plan
    assert plan is not None, "there is nothing to score"
    file_system, root = resolve(plan.stage.output)
    staged = []
    with contextlib.closing(plan.score.model.load()) as model:
        for shard in plan.shards:
            writer = None
            for number, batch in enumerate(read_shard(file_system, shard, plan.read)):
                scored, dead = score_batch(batch, model, plan.score, Tally())
                assert not dead
                writer = writer or open_scores(plan.stage, shard, scored)
                key = BatchKey(shard, number, 0, batch.num_rows, last=False)
                writer.write(key, scored)
            receipt = writer.close()
            assert receipt.rows_in == receipt.rows_scored
            staged.append(pq.read_table(f"{root}/{receipt.path}", partitioning=None))
    return pa.concat_tables(staged)
