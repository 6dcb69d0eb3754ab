"""The yardstick: pyarrow → a SavedModel's signature → pyarrow, in the cheapest plain loop.

This is what one would write by hand for one run on one machine, with the settings that measured
best, and it does nothing else: no check, no retry, no commit, no second worker. It imports nothing
of this project.

    python benchmarks/bare_loop.py --input … --model … --keys … --output …
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

# Rows of a record batch, of a model call and of a row group written, as measured best.
_CALL_ROWS = 16_384
_ROW_GROUP_ROWS = 262_144


def main() -> None:
    args = _parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(args.intra_op)
    tf.config.threading.set_inter_op_parallelism_threads(args.inter_op)
    model = tf.saved_model.load(args.model)
    function = model.signatures["serving_default"]
    specs = function.structured_input_signature[1]
    fills = dict(fill.split("=", 1) for fill in args.fill)
    carried = args.carried.split(",")
    for folder in sorted(Path(args.input).glob("*=*")):
        output = Path(args.output) / folder.name
        output.mkdir(parents=True)
        writer: pq.ParquetWriter | None = None
        waiting: list[pa.RecordBatch] = []
        for batch in _read(sorted(folder.glob("*.parquet")), specs, carried, args.call_rows):
            tensors = {name: _to_tensor(batch, spec, fills) for name, spec in specs.items()}
            scored = _to_batch(batch, function(**tensors), carried, args.model_digest)
            writer = writer or _open_writer(output / "scores.parquet", scored.schema)
            waiting.append(scored)
            if sum(b.num_rows for b in waiting) >= _ROW_GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if writer:
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting))
            writer.close()
