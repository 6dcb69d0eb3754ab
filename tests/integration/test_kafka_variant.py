"""A stream that scores with a variant, which `--model auto:DIR` chooses."""

from __future__ import annotations

import json

import pytest

from scoreline.models.artifact import digest_model
from scoreline.models.model_spec import ModelSpec
from scoreline.models.optimize.recipe import Step
from scoreline.models.variants import REPORT
from scoreline.pipelines import score_stream
from scoreline.pipelines.optimize.recipes import make_variant
from tests.kafka import as_json, make_producer, rows, scores_of, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
RECORDS = 5000


def test_a_stream_scores_with_the_variant(broker, topics, stream_arguments, tmp_path, zoo, capsys):
    parent = zoo("keras_3_export")
    (tmp_path / "parent").symlink_to(parent)
    made = make_variant(ModelSpec(path=parent), (Step("litert_float32", {}),), str(tmp_path))
    assert made.refusal == ""
    entry = {"name": made.name, "path": f"variants/{made.name}", "digest": digest_model(made.path)}
    entry |= {"is_admitted": True, "cost": {"ratio": {"value": 0.5}}, "cpu_flags": []}
    report = {"parent": {"path": "parent", "digest": digest_model(parent)}, "variants": [entry]}
    (tmp_path / REPORT).write_text(json.dumps(report))

    send(make_producer(broker.address), topics[0], as_json(rows(0, RECORDS)))
    flags = stream_arguments("--until_end", model=f"auto:{tmp_path}")
    assert score_stream.main([*flags, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["variant"]["name"] == made.name
    scores = scores_of(broker.address, topics[1])
    assert {score["model_digest"] for score in scores} == {entry["digest"]}
    expected = {row["id"]: 2 * row["a"] + row["b"] for row in rows(0, RECORDS)}
    assert {score["id"]: score["y"] for score in scores} == pytest.approx(expected, rel=1e-5)
