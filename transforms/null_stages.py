"""Stages that do next to nothing, for a load test that asks what another stage would then hold.

Each does its work once, and repeats the result for all further rows. So types and sizes are right,
and values are wrong: rows that were scored so name the stages in their `model_digest`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from scoreline.models.signature import InputColumn
from scoreline.transforms.alive import Alive
from scoreline.transforms.features import Features, build_features

# Stages that a job can do without: see `pipelines/plan/null_stage.py`.
OF_BATCH = ("read", "features", "predict", "stage", "commit")
OF_STREAM = ("decode", "features", "predict", "send", "commit")


class RepeatedRows:
    """The rows of one record batch, again and again. It keeps twice the rows that were asked for.

    Attributes:
      batch: the rows, as often as they were needed so far.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        """Repeat a batch, which has rows."""
        self.batch = batch

    def take(self, rows: int) -> pa.RecordBatch:
        """Return a number of rows from the first one on, without a copy if there are enough."""
        while self.batch.num_rows < rows:
            twice = pa.Table.from_batches([self.batch, self.batch]).combine_chunks()
            (self.batch,) = twice.to_batches()
        return self.batch.slice(0, rows)


class RepeatedFeatures:
    """Builds the features of a first batch, and gives them to all others, without dead rows."""

    def __init__(self) -> None:
        """Have no features yet."""
        self._rows: RepeatedRows | None = None

    def __call__(self, batch: pa.RecordBatch, inputs: Sequence[InputColumn]) -> Features:
        """Return features for each row of a batch; see `build_features`."""
        if self._rows is None:
            features = build_features(batch, inputs)
            if features.alive.rows:
                columns = features.columns
                first = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
                self._rows = RepeatedRows(first)
            return features
        rows = self._rows.take(batch.num_rows)
        columns = dict(zip(rows.schema.names, rows.columns, strict=True))
        return Features(columns, Alive(batch.num_rows), None)


def repeat_first(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the first of some batches until there are as many rows; the others are not read."""
    first = next(batches, None)
    while first is not None and rows > 0:
        yield first.slice(0, rows)
        rows -= first.num_rows
