"""`--model auto:DIR` scores with the cheapest admitted variant, and says which it is."""

from __future__ import annotations

import json

import pytest
from deltalake import DeltaTable

from scoreline.lake.table.history import read_live_partitions
from scoreline.models.artifact import digest_model
from scoreline.models.variants import REPORT
from scoreline.pipelines import inspect_model, score_batch
from scoreline.pipelines.options.commands import parse_flags
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.stream import read_stream
from tests.fakes import assert_scored_whole, read_scores, save_model, write_lake
from tests.json_output import read_object


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of variants: the parent, and one that has the same scores."""
    root = tmp_path_factory.mktemp("variants")
    digests = {}
    for name in ("parent", "cheap"):
        digests[name] = digest_model(save_model(root / name))
        (root / name / "note.txt").write_text(name)
        digests[name] = digest_model(str(root / name))
    variant = {"name": "cheap", "path": "cheap", "digest": digests["cheap"], "is_admitted": True}
    variant |= {"cost": {"ratio": {"value": 0.5}}, "cpu_flags": []}
    parent = {"path": "parent", "digest": digests["parent"]}
    (root / REPORT).write_text(json.dumps({"parent": parent, "variants": [variant]}))
    return root, digests


def test_a_job_scores_with_the_variant_and_records_the_parent(folder, tmp_path, capsys):
    root, digests = folder
    lake = write_lake(tmp_path / "lake", days=1)
    flags = [f"--input={lake}", f"--model=auto:{root}", "--keys=id", f"--output={tmp_path / 's'}"]
    assert score_batch.main([*flags, f"--model_digest={digests['parent']}", "--json"]) == 0
    found = read_object("batch", capsys.readouterr().out, 0)
    assert found["variant"] == {
        "name": "cheap",
        "parent_digest": digests["parent"],
        "passed_over": [],
    }
    assert_scored_whole(lake, tmp_path / "s")
    assert set(read_scores(tmp_path / "s")["model_digest"].to_pylist()) == {digests["cheap"]}
    (live,) = read_live_partitions(DeltaTable(str(tmp_path / "s")))
    assert live.commit["parent_digest"] == digests["parent"]
    assert live.commit["model_digest"] == digests["cheap"]


def test_a_damaged_variant_is_passed_over_and_the_parent_scores(folder, tmp_path, capsys, caplog):
    root, digests = folder
    note = root / "cheap" / "note.txt"
    lake = write_lake(tmp_path / "lake", days=1)
    flags = [f"--input={lake}", f"--model=auto:{root}", "--keys=id", f"--output={tmp_path / 's'}"]
    note.write_text("changed")
    try:
        assert score_batch.main([*flags, "--json"]) == 0
    finally:
        note.write_text("cheap")
    found = read_object("batch", capsys.readouterr().out, 0)
    assert found["model_digest"] == digests["parent"]
    assert found["variant"]["name"] == "parent"
    (reason,) = found["variant"]["passed_over"]
    assert "'cheap' is passed over: expected sha256:" in reason
    assert reason in caplog.text
    assert_scored_whole(lake, tmp_path / "s")


def test_inspect_shows_the_chosen_variant(folder, capsys):
    root, digests = folder
    assert inspect_model.main([f"--model=auto:{root}", "--json"]) == 0
    assert read_object("inspect", capsys.readouterr().out, 0)["model"]["digest"] == digests["cheap"]


def test_a_folder_without_variants_is_refused(tmp_path, capsys):
    flags = [f"--input={tmp_path}", f"--model=auto:{tmp_path}", "--keys=id", "--output=o"]
    assert score_batch.main(flags) == 2
    assert "expected a folder of `scoreline optimize`" in capsys.readouterr().err


def test_a_stream_that_swaps_models_takes_no_variants():
    problems = Problems()
    flags = ["--brokers=h:1", "--topic=t", "--group=g", "--model=auto:m", "--keys=id"]
    flags += ["--output_topic=o", "--watch_model_s=5"]
    read_stream(parse_flags("stream", flags, problems).given, problems)
    assert any("chooses a variant once" in problem for problem in problems)
