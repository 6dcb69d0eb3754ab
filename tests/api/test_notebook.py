"""A script in a folder with packages of the names of our rooms uses the wheel, and its own."""

from __future__ import annotations

import sys
import zipfile

import pytest

from tests.packages import bare_environ, call

SCRIPT = """
import pyarrow.parquet as pq
import scoreline
from models import THRESHOLD          # the user's own
from transforms.words import shorten  # the user's own

print(scoreline.__file__)
table = pq.read_table("lake/date=2024-01-01")
scores, dead = scoreline.load("model").score(table, keys=["id"])
late = [score for score in scores["score"].to_pylist() if score > THRESHOLD]
print(scores.num_rows, dead.num_rows, len(late) > 0, shorten("scoreline"))

import apache_beam as beam

with beam.Pipeline() as pipeline:
    rows = pipeline | beam.Create(table.to_pylist())
    scored = rows | scoreline.ScoreRows(model="model", outputs=["score"])
    counted = scored.scores | beam.combiners.Count.Globally()
    counted | beam.Map(print)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_script_beside_its_own_models_and_transforms_scores_with_the_wheel(
    archives, model, lake, tmp_path
):
    _, wheel = archives
    site, here = tmp_path / "site", tmp_path / "notebook"
    zipfile.ZipFile(wheel).extractall(site)
    (here / "models").mkdir(parents=True)
    (here / "models" / "__init__.py").write_text("THRESHOLD = 10.0\n")
    (here / "transforms").mkdir()
    (here / "transforms" / "words.py").write_text("def shorten(word):\n    return word[:5]\n")
    (here / "model").symlink_to(model)
    (here / "lake").symlink_to(lake)
    (here / "notebook.py").write_text(SCRIPT)
    out = call(
        [sys.executable, "notebook.py"], cwd=here, env=bare_environ(PYTHONPATH=str(site))
    ).splitlines()
    assert out[0] == str(site / "scoreline" / "__init__.py")
    assert out[1:] == ["300 0 True score", "300"]
