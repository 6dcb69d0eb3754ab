"""Stores that do not answer, and tables that cannot be read: what a command ends with, and says."""

from __future__ import annotations

import pytest

from deploy.local.processes import free_ports
from pipelines import replay, table


@pytest.fixture(scope="module")
def nobody():
    """Return the URI of a bucket in a store that nobody runs."""
    (port,) = free_ports(1)
    where = f"endpoint_override=127.0.0.1:{port}&scheme=http&retry_limit_seconds=1"
    return f"gs://anonymous@lake/rows?{where}"


def test_a_store_that_does_not_answer_may_be_tried_again(score, model, nobody, tmp_path, capsys):
    for name in ("input", "output"):
        ended = score(**{name: nobody})
        assert ended.code == 1
        assert f"--{name}: google::cloud::Status(UNAVAILABLE" in ended.err
    assert table.main(["status", f"--output={nobody}"]) == 1
    assert replay.main([f"--output={nobody}", f"--model={model}", "--keys=id"]) == 1
    assert capsys.readouterr().err.count("UNAVAILABLE") == 2
    assert not (tmp_path / "scores").exists()


def test_a_table_that_cannot_be_read_needs_a_person(score, tmp_path, capsys):
    output = tmp_path / "scores"
    assert score().code == 0
    for log in (output / "_delta_log").glob("*.json"):
        log.write_text("{")
    ended = score()
    assert ended.code == 2
    assert "--output: " in ended.err
    assert table.main(["status", f"--output={output}"]) == 2
