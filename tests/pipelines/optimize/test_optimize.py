"""Whole runs of `scoreline optimize` on a small model with text."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

import scoreline
from scoreline.models.artifact import digest_model
from scoreline.models.variants import REPORT, choose_variant
from scoreline.pipelines.optimize import command
from tests.fakes import WORDS, save_model, write_file
from tests.json_output import read_object

ROWS = 6000


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Return a lake whose label follows the score of `save_model`, with some nulls."""
    root = tmp_path_factory.mktemp("lake")
    rng = np.random.default_rng(3)
    for day in (1, 2):
        x, n = rng.random(ROWS // 2).astype(np.float32), rng.integers(0, 9, ROWS // 2)
        words = rng.choice(WORDS, ROWS // 2)
        happened = 3.0 * n + 2 * x + rng.normal(0, 4, ROWS // 2)
        happened[::50] = np.nan
        rows = pa.table(
            {
                "id": np.arange(ROWS // 2) + day * ROWS,
                "x": x,
                "n": n,
                "s": words.tolist(),
                "happened": pa.array(happened, from_pandas=True),
            }
        )
        write_file(root, f"date=2024-01-0{day}", "0.parquet", rows)
    return str(root)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "7", limit=None)


def flags_of(parent, lake, output, *more):
    return [
        *(f"--model={parent}", f"--input={lake}", "--keys=id", f"--output={output}"),
        *("--outputs=score", "--label=happened>=12", "--slices=s", *more),
    ]


def test_variants_are_made_judged_and_chosen(parent, lake, tmp_path, capsys):
    output = tmp_path / "variants"
    flags = flags_of(parent, lake, output, "--passes=litert_float32,fold_batch_norm", "--json")
    assert command.main(flags) == 0
    found = read_object("optimize", capsys.readouterr().out, 0)
    assert found == json.loads((output / REPORT).read_text())
    assert (found["rows"], found["rows_without_label"]) == (ROWS - ROWS // 50, ROWS // 50)
    assert found["parent"]["digest"] == digest_model(parent)
    (variant,) = found["variants"]
    assert variant["name"] == "litert_float32"
    assert [each["name"] for each in variant["passes"]] == ["litert_float32"]
    assert variant["quality"]["change"]["low"] >= -0.001
    assert variant["slices"]["judged"] == len(WORDS)
    assert all("CPU time" in reason for reason in variant["reasons"])  # of a busy machine
    assert len(variant["worst_rows"]) <= 5
    assert all(set(row["keys"]) == {"id"} for row in variant["worst_rows"])
    (refused,) = found["refused"]
    assert refused["name"] == "fold_batch_norm"
    choice = choose_variant(str(output), digest_model(parent))
    assert choice.name == found["chosen"]
    recipe = output / "recipes" / "litert_float32.yaml"
    assert f"call_rows: {variant['passes'][0]['settings']['call_rows']}" in recipe.read_text()
    html = (output / "report.html").read_text()
    assert "litert_float32" in html
    assert "<svg" in html

    rows = pa.table({"x": [0.5, 1.0], "n": [1, 2], "s": ["a", "never seen"], "id": [1, 2]})
    rows = rows.set_column(0, "x", rows["x"].cast(pa.float32()))
    made = scoreline.load(output / variant["path"]).score(rows, keys=["id"]).table
    whole = scoreline.load(parent).score(rows, keys=["id"]).table
    assert made["score"].to_pylist() == pytest.approx(whole["score"].to_pylist(), rel=1e-6)


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--label=hapened>=12", "'hapened'"),
        ("--slices=never", "'never'"),
        ("--tolerance=0", "expected a tolerance above 0"),
        ("--score=never", "expected output 'never'"),
        ("--last=0", "--last: expected a whole number of at least 1"),
        ("--outputs=never", "never"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_written(
    parent, lake, tmp_path, capsys, flag, sentence
):
    output = tmp_path / "variants"
    assert command.main(flags_of(parent, lake, output, flag)) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_not_written_to(parent, lake, tmp_path, capsys):
    (tmp_path / "variants").mkdir()
    assert command.main(flags_of(parent, lake, tmp_path / "variants")) == 2
    assert "expected no file or folder at" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["variants"]
