"""Calls functions in processes of their own, and measures what a model needs to start."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import pyarrow as pa

from scoreline.models.errors import ModelError
from scoreline.transforms.metrics import Tally
from scoreline.transforms.scoring import ScoreSpec, score_batch

P = ParamSpec("P")
T = TypeVar("T")
_STATUS = Path("/proc/self/status")


class Start(NamedTuple):
    """What a process needs to load a model and to score some rows.

    Attributes:
      cpu_s: CPU seconds until the first score, with the imports.
      peak_bytes: peak memory after all rows.
    """

    cpu_s: float
    peak_bytes: int


def run_apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function of a module in a new process, and return its result.

    Raises:
      ModelError: the process ended without a result.
      Exception: what the function raises.
    """
    apart = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=apart) as pool:
            return pool.submit(function, *args, **kwargs).result()
    except BrokenProcessPool as e:
        raise ModelError(
            "Its process ended without a result: it crashed, or had no memory left"
        ) from e


def measure_start(spec: ScoreSpec, rows: bytes) -> Start:
    """Load a model and score rows; call it in a new process.

    Args:
      spec: the model and its inputs.
      rows: an Arrow stream of one record batch.
    """
    model = spec.model.load(shared=False)
    with pa.ipc.open_stream(rows) as reader:
        batch = reader.read_next_batch()
    score_batch(batch.slice(0, 1), model, spec, Tally())
    cpu_s = time.process_time()
    score_batch(batch, model, spec, Tally())
    return Start(cpu_s, _peak_bytes())


def _peak_bytes() -> int:
    """Return the peak memory of this process.

    `getrusage` would tell that of the process that started this one, if that is larger.
    """
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"expected VmHWM in {_STATUS}, got none")


def to_stream(batch: pa.RecordBatch) -> bytes:
    """Return a record batch as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
