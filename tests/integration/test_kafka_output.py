"""What a stream prints: one JSON object for a program, and nothing on stderr when all is well."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scoreline.pipelines import score_stream
from tests.fakes import ROOT
from tests.json_output import read_object
from tests.kafka import as_json, make_producer, rows, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


def test_a_stream_and_its_check_print_one_object(
    broker, topics, stream_arguments, tmp_path, capsys
):
    send(make_producer(broker.address), topics[0], as_json(rows(0, 200)))
    arguments = [*stream_arguments("--until_end"), f"--output={tmp_path / 'scores'}", "--json"]
    capsys.readouterr()
    assert score_stream.main([*arguments, "--check"]) == 0
    plan = read_object("stream_check", capsys.readouterr().out, 0)
    assert plan["topic"] == topics[0]
    assert {"name": "a", "type": "float"} in plan["columns"]
    assert "y" in [column["name"] for column in plan["table_columns"]]

    assert score_stream.main(arguments) == 0
    done = read_object("stream", capsys.readouterr().out, 0)
    assert (done["rows_read"], done["rows_scored"], done["rows_dead"]) == (200, 200, 0)
    assert done["model_digest"] == plan["model_digest"]


@pytest.mark.parametrize("flags", [(), ("--exactly_once",)], ids=["at_least_once", "exactly_once"])
def test_a_stream_that_goes_well_leaves_stderr_empty(broker, topics, stream_arguments, flags):
    send(make_producer(broker.address), topics[0], as_json(rows(0, 200)))
    env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "scoreline", "stream"]
    done = subprocess.run(
        [*command, *stream_arguments("--until_end", *flags)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "scored 200, dead letters 0" in done.stdout
