"""Small models, lakes and commands for tests. Only the data is fake: models and engines are not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deploy.local.processes import free_ports
from scoreline.lake.table.scores import open_scores
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.pipelines import score_batch
from scoreline.pipelines.report.reporter import Reporter

ROOT = Path(__file__).parent.parent
WORDS = ["a", "b", "c", "ü"]


def save_model(path: Path, *, weight: float = 2.0, limit: float | None = 1e30) -> str:
    """Save a model with score = weight·x + 3·n + (1 for s = a, 2 for s = b, else 0).

    Inputs x float32, n int64, s string; outputs score float32 [None] and pair float32 [None, 2].
    A call fails if any |x| exceeds the limit; None checks nothing.
    """
    tf = import_tensorflow()

    class Linear(tf.Module):
        def __init__(self):
            self.weight = tf.Variable(weight)
            self.table = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(
                    tf.constant(["a", "b"]), tf.constant([1.0, 2.0])
                ),
                0.0,
            )

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.float32, name="x"),
                tf.TensorSpec([None], tf.int64, name="n"),
                tf.TensorSpec([None], tf.string, name="s"),
            ]
        )
        def serve(self, x, n, s):
            checks = [] if limit is None else [tf.debugging.assert_less(tf.abs(x), limit)]
            with tf.control_dependencies(checks):
                score = x * self.weight + 3.0 * tf.cast(n, tf.float32) + self.table.lookup(s)
            return {"score": score, "pair": tf.stack([score, x], axis=1)}

    module = Linear()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return str(path)


def make_rows(first_id: int, rows: int) -> pa.Table:
    """Return rows with an increasing int64 `id`, inputs x, n, s, and an unused column."""
    rng = np.random.default_rng(first_id)
    return pa.table(
        {
            "id": np.arange(first_id, first_id + rows),
            "x": rng.random(rows).astype(np.float32),
            "n": rng.integers(0, 9, rows),
            "s": rng.choice(WORDS, rows).tolist(),
            "unread": ["…"] * rows,
        }
    )


def write_file(root: Path, partition: str, name: str, table: pa.Table, **options: object) -> Path:
    """Write a Parquet file into a partition's folder."""
    folder = root / partition
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / name, **options)
    return folder / name


def write_lake(
    root: Path, days: int = 3, rows: int = 300, files: int = 2, **options: object
) -> str:
    """Write days from 2024-01-01 on; ids increase over all files and days."""
    first_id = 0
    for day in range(1, days + 1):
        for file in range(files):
            count = rows // files
            write_file(
                root,
                f"date=2024-01-{day:02d}",
                f"{file}.parquet",
                make_rows(first_id, count),
                **options,
            )
            first_id += count
    return str(root)


def read_lake(root: str) -> pa.Table:
    """Return all rows of a lake."""
    return pq.read_table(root, partitioning=None)


def expected_scores(rows: pa.Table, weight: float = 2.0) -> dict[int, float]:
    """Return the score of `save_model` by id, computed with NumPy."""
    word = {"a": 1.0, "b": 2.0}
    return {
        row["id"]: np.float32(row["x"]) * np.float32(weight)
        + 3.0 * row["n"]
        + word.get(row["s"], 0.0)
        for row in rows.to_pylist()
    }


def store_that_is_away() -> str:
    """Return the URI of a folder in a store that does not answer."""
    (port,) = free_ports(1)
    where = f"endpoint_override=127.0.0.1:{port}&scheme=http&retry_limit_seconds=1"
    return f"gs://anonymous@lake/rows?{where}"


def read_scores(output: str | Path) -> pa.Table:
    """Return the live rows of a scores table, with its partition columns."""
    return open_scores(str(output)).to_table()


def assert_scored_whole(lake: str | pa.Table, output: str | Path) -> None:
    """Check that a table holds the correct score for each row of a lake or table, exactly once."""
    wanted = expected_scores(read_lake(lake) if isinstance(lake, str) else lake)
    rows = read_scores(output).to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(wanted)
    assert all(abs(row["score"] - wanted[row["id"]]) < 1e-4 for row in rows)


class Ended(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str


def score_counted(argv: Sequence[str]) -> tuple[int, dict[str, int]]:
    """Run `scoreline batch` in this process; return its exit code and the job's counters."""
    ended = score_batch.execute(argv, Reporter("batch"))
    return ended.exit_code, ended.report.counters if ended.report else {}


def run_command(*args: str, cwd: Path = ROOT, timeout: int = 150) -> Ended:
    """Run `python -m …` in a separate process."""
    done = subprocess.run(
        [sys.executable, "-m", *args],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
