"""All metrics of the pipelines, declared once: name, unit, meaning. Works without Beam.

Names include the unit. The namespace is always `scoreline`. No name depends on data. Times are wall
time inside a step, summed over its threads and workers. Those of a step of a pipeline are also
calls of a stage, while stage times are recorded (`transforms/stage_times.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from scoreline.transforms import stage_times

NAMESPACE = "scoreline"


class Metric(NamedTuple):
    """A metric: a counter (summed) or a distribution (sum, count, minimum, maximum)."""

    name: str
    unit: str
    meaning: str
    kind: str = "counter"


ROWS_READ = Metric("rows_read", "rows", "rows decoded from the input")
ROWS_SCORED = Metric("rows_scored", "rows", "rows the model scored")
ROWS_DEAD = Metric("rows_dead", "rows", "rows that became dead letters")
BYTES_READ = Metric("read_bytes", "bytes", "size in memory of the columns read")
BYTES_STAGED = Metric("staged_bytes", "bytes", "size of the Parquet files staged")
SHARDS_SKIPPED = Metric(
    "shards_skipped", "shards", "shards that an earlier run or attempt has staged"
)
RECORDS_SENT = Metric("records_sent", "records", "records delivered to Kafka")
POLL_MS = Metric("poll_ms", "ms", "waiting for records of a topic, and taking them")
DECODE_MS = Metric("decode_ms", "ms", "decoding records of a stream")
ENCODE_MS = Metric("encode_ms", "ms", "encoding records of a stream; a part of send_ms")
SEND_MS = Metric("send_ms", "ms", "encoding records, waiting until Kafka has them")
READ_MS = Metric("read_ms", "ms", "reading and decoding input files")
FEATURES_MS = Metric("features_ms", "ms", "selecting, filling and checking input columns")
PREDICT_MS = Metric("predict_ms", "ms", "inside model calls, including conversion to tensors")
STAGE_MS = Metric("stage_ms", "ms", "encoding and writing Parquet")
COMMIT_MS = Metric("commit_ms", "ms", "checking receipts and committing to the table")
ISOLATION_CALLS = Metric("isolation_calls", "calls", "model calls that isolated bad rows")
VALUES_SATURATED = Metric(
    "values_saturated", "values", "input values beyond the range of a quantized model"
)
MODEL_SWAPS = Metric(
    "model_swaps", "swaps", "new model versions that were swapped in while scoring"
)
CANDIDATES_REFUSED = Metric("candidates_refused", "candidates", "model versions that did not")
MODELS_FALLEN_BACK = Metric(
    "models_fallen_back", "models", "models that Python TensorFlow calls, as the C API cannot"
)
MODEL_LOAD_MS = Metric("model_load_ms", "ms", "loading and warming up a model", "distribution")
BATCH_ROWS = Metric("batch_rows", "rows", "rows of each record batch", "distribution")
CALL_ROWS = Metric("call_rows", "rows", "rows per model call in use", "distribution")

ALL = (
    ROWS_READ,
    ROWS_SCORED,
    ROWS_DEAD,
    BYTES_READ,
    BYTES_STAGED,
    SHARDS_SKIPPED,
    RECORDS_SENT,
    POLL_MS,
    DECODE_MS,
    ENCODE_MS,
    SEND_MS,
    READ_MS,
    FEATURES_MS,
    PREDICT_MS,
    STAGE_MS,
    COMMIT_MS,
    ISOLATION_CALLS,
    VALUES_SATURATED,
    MODEL_SWAPS,
    CANDIDATES_REFUSED,
    MODELS_FALLEN_BACK,
    MODEL_LOAD_MS,
    BATCH_ROWS,
    CALL_ROWS,
)


class Tally:
    """Sums of metrics in plain Python: a notebook reads them, a Beam step flushes them."""

    # Whether it belongs to a step, whose times are those of a stage.
    is_of_step = False

    def __init__(self) -> None:
        """Start with all sums at zero."""
        self._counts: dict[str, float] = {}
        self._values: dict[str, list[int]] = {}

    def count(self, metric: Metric, amount: float) -> None:
        """Add to a counter."""
        self._counts[metric.name] = self._counts.get(metric.name, 0) + amount

    def observe(self, metric: Metric, value: int) -> None:
        """Add one value to a distribution."""
        self._values.setdefault(metric.name, []).append(value)

    def total(self, metric: Metric) -> float:
        """Return the sum of a counter since the last flush."""
        return self._counts.get(metric.name, 0)

    @contextmanager
    def timed(self, metric: Metric) -> Iterator[None]:
        """Measure the wall time of a with block, in milliseconds."""
        recorder = stage_times.active
        if recorder is not None and self.is_of_step:
            recorder.begin(stage_of(metric))
        else:
            recorder = None
        began = time.perf_counter()
        try:
            yield
        finally:
            self.count(metric, (time.perf_counter() - began) * 1000)
            if recorder is not None:
                recorder.end()

    def pass_rows(self, metric: Metric, rows: int) -> None:
        """Note that rows passed through the stage of a time."""
        if stage_times.active is not None and self.is_of_step:
            stage_times.active.count(stage_of(metric), rows)


def stage_of(metric: Metric) -> str:
    """Return the stage whose time a metric is, such as `read` for `read_ms`."""
    return metric.name.removesuffix("_ms")
