"""The public names and their signatures are frozen: a change of one is a change of this file."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest

import scoreline
from tests.fakes import ROOT

_MODEL = (
    "signature='serving_default', columns=None, fills=None, pads=None, pad_lengths=None, "
    "truncate=(), outputs=None, batch_rows=None, model_digest=None, op_libraries=(), "
    "tags=(), batch_timeout_s=None, allow_impure=None"
)
SIGNATURES = {
    "CommitPartitions": (
        "*, table, keys, max_dead_letter_ratio=0.01, fingerprints=None, metadata=None"
    ),
    "LoadedModel.close": "self",
    "LoadedModel.score": "self, rows, *, keys=(), keep=()",
    "Outcome": (
        "partition, run_id, state, version=-1, rows_in=0, rows_scored=0, rows_dead=0, "
        "duplicate_keys=0, reason=''"
    ),
    "Partitions": "batches, staged",
    "ReadPartitions": (
        "path, *, columns=None, partitions=(), table=None, work=None, replace=False, "
        "batch_rows=None"
    ),
    "Score": f"*, model, keys=(), keep=(), schema=None, {_MODEL}",
    "ScoreRows": f"*, model, keep=None, {_MODEL}",
    "Scores": "table, dead_letters",
    "StageScores": "*, table, schema, keys",
    "load": f"path, *, {_MODEL}",
    "open_scores": "uri",
}


def parameters(name):
    value = scoreline
    for part in name.split("."):
        value = getattr(value, part)
    signature = inspect.signature(value)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(plain))[1:-1]


def test_public_names_are_these_and_no_others():
    named = {name.partition(".")[0] for name in SIGNATURES} | {"__version__"}
    assert set(scoreline.__all__) == named
    assert sorted(scoreline.__all__) == scoreline.__all__
    with pytest.raises(AttributeError, match="has no attribute 'ReadKafka'"):
        _ = scoreline.ReadKafka


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_these(name):
    assert parameters(name) == SIGNATURES[name]


@pytest.mark.parametrize("name", [n for n in SIGNATURES if "." not in n])
def test_public_names_tell_what_they_are_for(name):
    assert len(inspect.getdoc(getattr(scoreline, name)).splitlines()) > 1


_RIGHT = """
import pyarrow as pa
import scoreline

def score(table: pa.Table) -> None:
    model = scoreline.load("model", outputs=["score"])
    scores = model.score(table, keys=["id"])
    reveal_type(model)
    reveal_type(scores)
    reveal_type(scoreline.ScoreRows(model="model"))
"""
_WRONG = """
import scoreline

scoreline.load("model", colums={"x": "y"})
scoreline.load(7)
scoreline.Score(model="model", keys=7)
scoreline.ReadKafka
"""


def run_mypy(folder, code):
    (folder / "user.py").write_text(code)
    (folder / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n[mypy-pyarrow.*]\nignore_missing_imports = true\n"
        "[mypy-apache_beam.*]\nfollow_imports = skip\n"
        # Errors within an installed package are nobody's but its own.
        "[mypy-scoreline.*]\nignore_errors = true\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=mypy.ini", "user.py"],
        cwd=folder,
        env={**os.environ, "MYPYPATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_a_type_checker_sees_the_public_types_and_flags_wrong_calls(tmp_path):
    (tmp_path / "scoreline").symlink_to(ROOT / "scoreline")
    told = run_mypy(tmp_path, _RIGHT)
    assert 'Revealed type is "scoreline.transforms.loaded.LoadedModel"' in told, told
    assert "scoreline.transforms.loaded.Scores" in told
    assert 'Revealed type is "scoreline.transforms.rows.ScoreRows"' in told
    assert "error:" not in told
    told = run_mypy(tmp_path, _WRONG)
    lines = [line for line in told.splitlines() if "error:" in line]
    assert [line.split(":")[1] for line in lines] == ["4", "5", "6", "7"], told
    assert 'Unexpected keyword argument "colums"' in lines[0]
    assert (ROOT / "scoreline" / "py.typed").exists()
