"""Every model format on every input format: the table equals a direct call, by key."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake

from tests.fakes import read_scores
from tests.inputs import write_rows

DAYS = (datetime.date(2024, 1, 1), datetime.date(2024, 1, 2))

ROWS = 120
RNG = np.random.default_rng(3)
TABLE = pa.table(
    {
        "id": np.arange(ROWS),
        "a": RNG.uniform(-1, 1, ROWS).astype(np.float32),
        "b": RNG.uniform(-1, 1, ROWS).astype(np.float32),
    }
)
# Bit-equal where no matrix product is involved; one step of the output's scale where quantized.
MODELS = {
    "module": 0.0,
    "keras_3_export": 1e-6,
    "model.keras": 1e-6,
    "keras_2": 1e-6,
    "tf1": 0.0,
    "estimator": 0.0,
    "model.tflite": 1e-6,
    "int8.tflite": 0.03,
}
INPUTS = ("parquet", "tfrecord", "tfrecord.gz", "csv", "jsonl", "delta")


@pytest.fixture(scope="module")
def lakes(tmp_path_factory):
    """Return the same two days in every format."""
    root = tmp_path_factory.mktemp("lakes")
    for suffix in INPUTS:
        for day, rows in zip(DAYS, (TABLE.slice(0, 70), TABLE.slice(70)), strict=True):
            if suffix == "delta":
                dated = rows.append_column("date", pa.repeat(day, rows.num_rows))
                write_deltalake(str(root / suffix), dated, partition_by=["date"], mode="append")
            else:
                write_rows(root / suffix, f"date={day}", "0", rows, suffix)
    return {suffix: str(root / suffix) for suffix in INPUTS}


@pytest.mark.parametrize("suffix", INPUTS)
@pytest.mark.parametrize("kind", MODELS)
def test_every_model_scores_every_input(score, zoo, lakes, tmp_path, kind, suffix):
    options = []
    if suffix.startswith(("csv", "json")):  # text has doubles only
        options = ["--columns=a=float32(a),b=float32(b)"]
    ended = score(*options, input=lakes[suffix], model=zoo(kind))
    assert ended.code == 0, ended.err
    scores = read_scores(tmp_path / "scores").sort_by("id")
    assert scores["id"].to_pylist() == list(range(ROWS))
    (output,) = [n for n in scores.schema.names if n in ("y", "outputs")]
    wanted = pc.add(pc.multiply(TABLE["a"], pa.scalar(2.0, pa.float32())), TABLE["b"])
    np.testing.assert_allclose(
        scores[output].to_numpy(), wanted.to_numpy(), rtol=0, atol=MODELS[kind]
    )
