"""Measure the cost of single rows in a pipeline: ScoreRows against Beam's own ways.

    python -m benchmarks.rows

Every design gets the same elements: dicts of flights, which one fused stage creates and counts.
Each runs in its own process on Scoreline's runner, with one worker. The result is the CPU time per
additional row: a run on many rows minus a run on few, minus the same without scoring. The costs of
start-up, loading and the elements cancel out. All designs must give the same scores; otherwise
nothing is printed. Writes build/bench/rows.md.
"""

from __future__ import annotations

import argparse
import functools
import gc
import itertools
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

import scoreline
from benchmarks import peer
from benchmarks.beam_runinference import RowHandler
from benchmarks.data import KEY, demo_workload
from demo.model import OUTPUT

_BUILD = Path("build")
_FEW = 20_000
_CHUNK = 10_000
_CALL_ROWS = 8_192
_TOLERANCE = 1e-4

# The input of this process. Steps create elements from it by name, so they need not pickle it.
elements: list[Any] = []
scores: dict[int, float] = {}


def rows_of(chunk: int) -> Sequence[Any]:
    """Return the elements of a chunk."""
    return elements[chunk * _CHUNK : (chunk + 1) * _CHUNK]


def note(row: Any) -> None:
    """Record the score of a row, if it has one."""
    fields = row if isinstance(row, dict) else vars(row)
    scores[fields[KEY]] = float(fields.get(OUTPUT, 0.0))


def _to_row(result: Any) -> dict[str, Any]:
    return {**result.example, **result.inference}


class _CallDoFn(beam.DoFn):
    """A careful user's code after BatchElements: one array per input, and one call."""

    def __init__(self, model: str, inputs: dict[str, str], fills: dict[str, Any]) -> None:
        self._handler = RowHandler(model, inputs, fills)

    def setup(self) -> None:
        self._model = self._handler.load_model()

    def process(self, batch: Sequence[Any]) -> Iterator[dict[str, Any]]:
        for result in self._handler.run_inference(batch, self._model):
            yield _to_row(result)


Design = Callable[[beam.PCollection, str, dict[str, str]], beam.PCollection]


def _nothing(rows: beam.PCollection, model: str, fills: dict[str, str]) -> beam.PCollection:
    return rows


def _score_rows(rows: beam.PCollection, model: str, fills: dict[str, str]) -> beam.PCollection:
    return (rows | scoreline.ScoreRows(model=model, fills=fills)).scores


def _run_inference(rows: beam.PCollection, model: str, fills: dict[str, str]) -> beam.PCollection:
    inputs, parsed = _prepare(model, fills)
    return rows | RunInference(RowHandler(model, inputs, parsed)) | beam.Map(_to_row)


def _batch_elements(rows: beam.PCollection, model: str, fills: dict[str, str]) -> beam.PCollection:
    inputs, parsed = _prepare(model, fills)
    batches = rows | beam.BatchElements(min_batch_size=_CALL_ROWS, max_batch_size=_CALL_ROWS)
    return batches | beam.ParDo(_CallDoFn(model, inputs, parsed))


def _prepare(model: str, fills: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    inputs, _ = peer.read_signature(model)
    return inputs, {name: peer.parse_fill(inputs[name], text) for name, text in fills.items()}


DESIGNS: dict[str, tuple[Design, type]] = {
    "elements alone": (_nothing, dict),
    "Rows alone": (_nothing, beam.Row),
    "ScoreRows, dicts": (_score_rows, dict),
    "ScoreRows, Beam Rows": (_score_rows, beam.Row),
    "BatchElements and a DoFn": (_batch_elements, dict),
    "RunInference": (_run_inference, dict),
}
_BASE = {dict: "elements alone", beam.Row: "Rows alone"}


def run_design(name: str, rows: int, repeats: int) -> dict[str, Any]:
    """Run a design in this process; return CPU µs per additional row, and the scores."""
    workload = demo_workload(_BUILD)
    model = str(workload.models["small"])
    design, kind = DESIGNS[name]
    inputs, _ = peer.read_signature(model)
    files = sorted(workload.flights.glob("*/*.parquet"))
    tables = (pq.read_table(file, columns=[KEY, *inputs], partitioning=None) for file in files)
    read = itertools.chain.from_iterable(table.to_pylist() for table in tables)
    elements[:] = itertools.islice(read, rows)
    if kind is beam.Row:
        elements[:] = [beam.Row(**row) for row in elements]
    gc.freeze()  # no step of a real pipeline has all elements for the collector to look through
    spent = functools.partial(_cpu_of, design, model, workload.fills)
    spent(_FEW)
    costs = [(spent(rows) - spent(_FEW)) / (rows - _FEW) * 1e6 for _ in range(repeats)]
    spent(rows)
    return {"costs": costs, "scores": [scores[key] for key in sorted(scores)]}


def _cpu_of(design: Design, model: str, fills: dict[str, str], rows: int) -> float:
    options = PipelineOptions(["--runner=FnApiRunner", "--direct_num_workers=1"])
    began = resource.getrusage(resource.RUSAGE_SELF)
    scores.clear()
    with beam.Pipeline(options=options) as pipeline:
        chunks = pipeline | beam.Create(range(rows // _CHUNK), reshuffle=False)
        made = chunks | "Make" >> beam.FlatMap(rows_of)
        _ = design(made, model, fills) | "Note" >> beam.Map(note)
    ended = resource.getrusage(resource.RUSAGE_SELF)
    return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime


def main(argv: Sequence[str] | None = None) -> int:
    """Run every design in its own process, compare their scores, and print the cost per row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=120_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--design", choices=DESIGNS, help="run this design in this process, print JSON"
    )
    args = parser.parse_args(argv)
    if args.design:
        # By name: objects of a script's module would be pickled into each step.
        from benchmarks import rows as this

        print(json.dumps(this.run_design(args.design, args.rows, args.repeats)))
        return 0
    demo_workload(_BUILD)
    costs, first = {}, None
    for name in DESIGNS:
        found = _run_apart(name, args)
        costs[name] = found["costs"]
        if DESIGNS[name][0] is _nothing:
            continue
        first = first or found["scores"]
        if len(found["scores"]) != len(first) or not np.allclose(
            found["scores"], first, atol=_TOLERANCE
        ):
            sys.stderr.write(f"{name}: expected the scores of the others, got different ones\n")
            return 1
    table = _report(costs, args)
    print(table)
    (_BUILD / "bench").mkdir(parents=True, exist_ok=True)
    (_BUILD / "bench" / "rows.md").write_text(table)
    return 0


def _run_apart(name: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.rows", f"--design={name}"]
    command += [f"--rows={args.rows}", f"--repeats={args.repeats}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
    return found


def _report(costs: dict[str, list[float]], args: argparse.Namespace) -> str:
    alone = {kind: statistics.median(costs[name]) for kind, name in _BASE.items()}
    net = {
        name: [cost - alone[kind] for cost in costs[name]]
        for name, (design, kind) in DESIGNS.items()
        if design is not _nothing
    }
    best = statistics.median(net["ScoreRows, dicts"])
    lines = ["| design | CPU µs per row | range | times ScoreRows |", "|---|--:|--:|--:|"]
    for name, values in net.items():
        middle = statistics.median(values)
        low, high = min(values), max(values)
        lines.append(f"| {name} | {middle:.2f} | {low:.2f}–{high:.2f} | {middle / best:.1f} |")
    lines.append("")
    lines.append(
        f"{args.rows:,} rows, median of {args.repeats} runs; elements alone cost "
        f"{alone[dict]:.2f} µs (dicts) and {alone[beam.Row]:.2f} µs (Rows), which is subtracted."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
