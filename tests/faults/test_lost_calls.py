"""Rows that hang or crash the model, through the whole command.

The model is a LiteRT model, so that its process starts in two seconds.
"""

from __future__ import annotations

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset
import pytest

from scoreline.pipelines import replay, score_batch, table
from tests.fakes import read_scores, run_command, write_file
from tests.model_zoo import CRASHES, HANGS
from tests.processes import run_script

ROWS = 1000


def write_days(root, *days):
    """Write one day of rows per list of (row, value of b)."""
    for day, bad in enumerate(days):
        b = np.ones(ROWS, np.float32)
        for row, value in bad:
            b[row] = value
        ids = np.arange(ROWS) + day * ROWS
        rows = pa.table({"id": ids, "a": ids.astype(np.float32), "b": b})
        write_file(root, f"date=2024-01-{day + 1:02d}", "0.parquet", rows)
    return str(root)


def options_of(lake, model, output, *more):
    flags = {"input": lake, "model": model, "keys": "id", "output": output}
    return [*(f"--{name}={value}" for name, value in flags.items()), *more]


def read_letters(output):
    root = f"{output}_dead_letters"
    rows = pyarrow.dataset.dataset(root, partitioning="hive").to_table().to_pylist()
    return {row["id"]: row["_reason"] for row in rows}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rows_that_hang_or_crash_the_model_cost_themselves_alone(tmp_path, zoo, capsys):
    bad = [(0, HANGS), (ROWS - 1, HANGS)], [(500, CRASHES)], []
    lake = write_days(tmp_path / "lake", *bad)
    output = tmp_path / "scores"
    options = options_of(lake, zoo("perilous.tflite"), output, "--batch_timeout_s=4")
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    assert score_batch.main([*options, "--workers=2"]) == 3
    after = psutil.Process().children(recursive=True)
    assert not [p for p in after if p.pid not in before], "a model's process is left"
    lost = {0, ROWS - 1, ROWS + 500}
    scored = {row["id"]: row["y"] for row in read_scores(output).to_pylist()}
    assert scored == {i: 2.0 * i + 1.0 for i in range(3 * ROWS) if i not in lost}
    hung = "CallHung: no answer within 4 s (--batch_timeout_s); the model's process was ended"
    assert read_letters(output) == {
        0: hung,
        ROWS - 1: hung,
        ROWS + 500: "ModelDied: the model's process died with signal 8 (SIGFPE)",
    }
    assert table.main(["verify", f"--output={output}"]) == 0
    # A model that accepts such rows replays them; a model that does not leaves them in place.
    replayed = [f"--output={output}", "--keys=id", "--batch_timeout_s=4"]
    chosen = "--partitions=date=2024-01-02"
    assert replay.main([*replayed, f"--model={zoo('perilous.tflite')}", chosen]) == 3
    assert replay.main([*replayed, f"--model={zoo('model.tflite')}"]) == 0
    assert read_scores(output).num_rows == 3 * ROWS
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_model_whose_every_call_hangs_ends_the_job(tmp_path, zoo):
    every = [(row, HANGS) for row in range(ROWS)]
    lake = write_days(tmp_path / "lake", every, every, every)
    ended = run_command(
        "scoreline",
        "batch",
        *options_of(lake, zoo("perilous.tflite"), tmp_path / "scores"),
        *("--batch_timeout_s=0.3", "--workers=1"),
        timeout=280,
    )
    assert ended.code == 1
    assert (
        "The job failed: The model fails on every row of two batches: CallHung: no "
        "answer within 0.3 s"
    ) in ended.err


@pytest.mark.slow
def test_launcher_imports_no_framework_where_the_model_has_its_own_process(tmp_path, zoo):
    lake = write_days(tmp_path / "lake", [])
    code = (
        "import sys\nfrom scoreline.pipelines import score_batch\n"
        f"code = score_batch.main({options_of(lake, zoo('model.tflite'), tmp_path / 'scores')!r}"
        " + ['--batch_timeout_s=60'])\n"
        "print(code, [m for m in ('tensorflow', 'ai_edge_litert') if m in sys.modules])"
    )
    ended = run_script(tmp_path, code)
    assert ended.out.strip().endswith("0 []"), ended


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf"])
def test_a_timeout_that_is_none_is_refused_before_the_first_row(score, value):
    ended = score(f"--batch_timeout_s={value}")
    assert ended.code == 2
    assert f"--batch_timeout_s: expected a number of seconds above 0, got '{value}'" in ended.err
