"""The process that measures the model alone, by the scenarios of MLPerf's LoadGen.

    python -m scoreline.pipelines.load_test.driver.model_alone FOLDER

FOLDER has `specs.pickle`, which the subject writes, and `values.arrow`. The process writes
`model_alone.json`. It needs the extra `loadgen`.

SingleStream: one row after the other. Server: rows at a rate, at random moments; all rows that wait
are one call, as in the stream. Offline: all rows at once.
(https://github.com/mlcommons/inference/tree/master/loadgen)
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scoreline.pipelines.load_test.driver.child import end_with_driver
from scoreline.pipelines.load_test.driver.send import read_values
from scoreline.pipelines.load_test.result import ModelAlone
from scoreline.transforms.features import build_features
from scoreline.transforms.kafka.decode import DecodeSpec, decode_batch
from scoreline.transforms.kafka.records import VALUE
from scoreline.transforms.scoring import ScoreSpec, predict

SECONDS = 4.0
_CALL_ROWS = 8192
# LoadGen makes an object for each row of Offline, before it begins.
_MAX_OFFLINE_PER_S = 20_000.0


def write_specs(folder: Path, decode: DecodeSpec, score: ScoreSpec) -> None:
    """Write what decodes and scores the values of a stream."""
    (folder / "specs.pickle").write_bytes(pickle.dumps((decode, score)))


class _Rows:
    """Decoded rows, and the model that scores some of them."""

    def __init__(self, folder: Path) -> None:
        specs = (folder / "specs.pickle").read_bytes()
        decode, self._spec = pickle.loads(specs)  # noqa: S301  written by the subject of this test
        raw = pa.record_batch({VALUE: pa.array(read_values(folder), pa.binary())})
        batch, _ = decode_batch(raw, decode.make(), decode.schema)
        features = build_features(batch, self._spec.inputs)
        names = list(features.columns)
        self._features = pa.Table.from_arrays(list(features.columns.values()), names)
        self.count = self._features.num_rows
        self._servable = self._spec.model.load()

    def score(self, numbers: Sequence[int]) -> None:
        """Score some rows, in calls of at most 8,192."""
        for start in range(0, len(numbers), _CALL_ROWS):
            wanted = pa.array(np.asarray(numbers[start : start + _CALL_ROWS]) % self.count)
            taken = self._features.take(wanted).combine_chunks()
            columns = {name: taken[name].combine_chunks() for name in taken.column_names}
            predict(self._servable, columns, len(wanted), self._spec)


def measure(folder: Path, rate_per_s: float | None) -> ModelAlone:
    """Run the scenarios one after the other."""
    rows = _Rows(folder)
    rows.score(range(min(rows.count, _CALL_ROWS)))
    single = _run(folder, "SingleStream", rows, {})
    offline = _run(
        folder,
        "Offline",
        rows,
        {"offline_expected_qps": min(_guess_per_s(rows), _MAX_OFFLINE_PER_S)},
    )
    server = ""
    if rate_per_s is not None:
        settings = {"server_target_qps": rate_per_s, "server_target_latency_ns": 10**10}
        server = _run(folder, "Server", rows, settings)
    return ModelAlone(
        single_row_p90_ms=_find(single, r"90\.?0*th percentile latency \(ns\)") / 1e6,
        offline_per_s=_find(offline, r"Samples per second"),
        server_p99_ms=_find(server, r"99\.00 percentile latency \(ns\)") / 1e6 if server else None,
        server_rate_per_s=rate_per_s,
    )


def _guess_per_s(rows: _Rows) -> float:
    """Return how many rows the model scores in a second, from calls of a tenth of one."""
    began, done = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < 0.2:
        rows.score(range(_CALL_ROWS))
        done += _CALL_ROWS
    return done / took


def _run(folder: Path, scenario: str, rows: _Rows, settings: dict[str, float]) -> str:
    """Run a scenario, and return LoadGen's summary."""
    import mlperf_loadgen as loadgen

    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def work() -> None:
        while (first := waiting.get()) is not None:
            queries = [first]
            while not waiting.empty() and queries[-1] is not None:
                queries.append(waiting.get_nowait())
            samples = [sample for query in queries if query is not None for sample in query]
            rows.score([sample.index for sample in samples])
            answers = [loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in samples]
            loadgen.QuerySamplesComplete(answers)
            if queries[-1] is None:
                return

    test = loadgen.TestSettings()
    test.scenario = getattr(loadgen.TestScenario, scenario)
    test.mode = loadgen.TestMode.PerformanceOnly
    test.min_duration_ms = test.max_duration_ms = round(SECONDS * 1000)
    test.min_query_count = 1
    for name, value in settings.items():
        setattr(test, name, value)
    log = loadgen.LogSettings()
    log.log_output.outdir, log.log_output.prefix = str(folder), f"{scenario}-"
    log.enable_trace = False
    nothing: Callable[[Any], None] = lambda _: None  # noqa: E731  rows are in memory
    worker = threading.Thread(target=work)
    worker.start()
    sut = loadgen.ConstructSUT(lambda samples: waiting.put(list(samples)), lambda: None)
    library = loadgen.ConstructQSL(rows.count, rows.count, nothing, nothing)
    try:
        loadgen.StartTestWithLogSettings(sut, library, test, log)
    finally:
        waiting.put(None)
        worker.join()
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(sut)
    return (folder / f"{scenario}-summary.txt").read_text()


def _find(summary: str, name: str) -> float:
    found = re.search(rf"^{name}\s*:\s*(\S+)", summary, re.M)
    if found is None:
        raise ValueError(f"expected '{name}' in the summary of LoadGen, got: {summary[:2000]}")
    return float(found[1])


def main() -> int:
    """Measure, and write the result."""
    end_with_driver()
    folder = Path(sys.argv[1])
    given = json.loads((folder / "model_alone_load.json").read_text())
    result = measure(folder, given["rate_per_s"])
    (folder / "model_alone.json").write_text(json.dumps(dataclasses.asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
