"""Stores that do not answer and unreadable tables: exit codes and messages."""

from __future__ import annotations

from scoreline.pipelines import replay, table
from tests.fakes import store_that_is_away


def test_a_store_that_does_not_answer_may_be_tried_again(score, model, tmp_path, capsys):
    nobody = store_that_is_away()
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
