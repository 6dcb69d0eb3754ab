"""Models as users have them, in whole commands: names of any form, and refusals that all give."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from scoreline.models.names import quote_name
from scoreline.pipelines import inspect_model, replay, score_batch
from tests.fakes import write_file
from tests.odd_models import NAMES

ROWS = 20
TOO_LARGE = 7


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd") / "lake"
    columns = {name: pa.array([float(i)] * ROWS, pa.float32()) for i, name in enumerate(NAMES)}
    columns["a"] = pa.array([1e300 if row == TOO_LARGE else row for row in range(ROWS)])
    rows = pa.table(
        {
            "key, (1)": range(ROWS),
            "_reason": range(ROWS),
            "id": range(ROWS),
            "x": [1.0] * ROWS,
            **columns,
        }
    )
    write_file(root, "date=2024-01-01", "0.parquet", rows)
    return str(root)


def test_keys_kept_columns_inputs_and_outputs_of_any_name_are_scored_and_replayed(
    zoo, lake, tmp_path
):
    renamed = {name: f"of {name}, (=)" for name in NAMES}
    stored = [f"{quote_name(n)}={quote_name(c)}" for n, c in renamed.items() if n != "A"]
    kept = [name for name in NAMES if name not in ("a", "A")]
    flags = [
        f"--model={zoo('odd_tf1')}/names",
        "--columns=a=float32(a)",
        "--keys=" + quote_name("key, (1)"),
        "--keep=" + ",".join(map(quote_name, kept)),
        "--outputs=" + ",".join(stored),
        f"--output={tmp_path / 'table'}",
    ]
    code = score_batch.main([f"--input={lake}", *flags, "--max_dead_letter_ratio=0.5"])
    assert code == 3
    table = DeltaTable(tmp_path / "table").to_pyarrow_table().sort_by("key, (1)")
    assert table["key, (1)"].to_pylist() == [row for row in range(ROWS) if row != TOO_LARGE]
    for number, name in enumerate(NAMES):
        if name == "a":
            scores = [2.0 * row for row in range(ROWS) if row != TOO_LARGE]
            assert table[renamed[name]].to_pylist() == scores
        elif name != "A":
            assert set(table[name].to_pylist()) == {float(number)}
            assert set(table[renamed[name]].to_pylist()) == {2.0 * number}
    # The row is the same, so that it fails again.
    assert replay.main([*flags]) == 3


@pytest.mark.parametrize(
    ("model", "flags", "told"),
    [
        ("odd_tf2/case", [], "'Score' and 'score' at once"),
        ("odd_tf2/case", ["--outputs=ID"], "'id' and 'ID' at once"),
        ("odd_tf2/case", ["--outputs=ID=DATE"], "'DATE' and 'date' at once"),
        ("odd_tf2/case", ["--outputs=ID=y", "--keep=_reason"], "that dead letters add (_step"),
        ("odd_tf2/dtypes", ["--columns=x=id", "--outputs=o_uint64"], "output 'o_uint64': a Delta"),
        ("odd_tf2/dtypes", ["--columns=x=id", "--outputs=o_ragged"], "as ragged int64"),
        ("odd_tf2/python", [], "calls Python code of the process that exported it"),
        ("odd_tf2/flex.tflite", [], "ops of TensorFlow (Identity, StringLower)"),
        ("odd_tf2/keras_2.keras", [], "Keras 2."),
        ("odd_tf2/keras_2.h5", [], "an HDF5 file of Keras"),
        ("odd_tf1/no_serve", ["--columns=a=x"], "--tags: model"),
        ("odd_tf1/alike", [], "whose names TensorFlow does not tell apart"),
        ("odd_tf2/divides", ["--columns=a=id,b=id"], "--columns 'a=int32(id)', which makes"),
        ("odd_tf2/quantized_uint8.tflite", ["--columns=x=id"], "'x=scaled(id)' for real numbers"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_first_row(
    zoo, lake, tmp_path, capsys, model, flags, told
):
    folder, name = model.split("/")
    given = [f"--input={lake}", f"--model={os.path.join(zoo(folder), name)}", *flags]
    for more in ([], ["--check"]):
        batch = [*given, "--keys=id", f"--output={tmp_path / 'table'}", *more]
        assert score_batch.main(batch) == 2
        assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "table").exists()
    if not any(part in told for part in ("at once", "Delta", "dead letters")):  # of a table
        assert inspect_model.main(given) == 2
        captured = capsys.readouterr()
        assert told in " ".join((captured.out + captured.err).split())
