"""Stage times of streams on a real broker: whole, in every stage, and not longer than the clock."""

from __future__ import annotations

import dataclasses

import pytest

from scoreline.pipelines import score_stream
from scoreline.transforms import stage_times
from scoreline.transforms.stage_times import STAGES, read_stage_times
from tests.kafka import as_json, assert_scored, make_producer, rows, scores_of, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
RECORDS = 20_000
_OF_STREAM = [stage for stage in STAGES if stage not in ("read", "stage")]


@pytest.fixture
def build_with(monkeypatch):
    """Return a function that changes the plans of streams that this process starts."""
    build = score_stream.build

    def change(of_plan):
        monkeypatch.setattr(
            score_stream,
            "build",
            lambda pipeline, plan, *more: build(pipeline, of_plan(plan), *more),
        )

    return change


@pytest.mark.parametrize(
    "flags",
    [(), ("--exactly_once",), ("--output",)],
    ids=["at_least_once", "exactly_once", "table"],
)
def test_every_stage_is_there_with_every_record(
    broker, topics, stream_arguments, build_with, tmp_path, flags
):
    directory = str(tmp_path / "times")
    build_with(
        lambda plan: dataclasses.replace(
            plan, read=dataclasses.replace(plan.read, stage_times=directory)
        )
    )
    send(make_producer(broker.address), topics[0], as_json(rows(0, RECORDS)))
    if flags == ("--output",):
        argv = stream_arguments("--until_end", f"--output={tmp_path / 'table'}")
    else:
        argv = stream_arguments("--until_end", *flags)
    assert score_stream.main(argv) == 0
    assert stage_times.active is None  # the last step has ended it
    assert_scored(scores_of(broker.address, topics[1]), RECORDS, exactly_once=True)

    (worker,) = read_stage_times(directory, 0, 9e9)  # though bundles run in changing threads
    assert list(worker.stages) == _OF_STREAM
    for name, stage in worker.stages.items():
        assert stage.calls > 0, name
        assert stage.rows == (0 if name == "commit" else RECORDS), name
        assert stage.histogram_us.get_total_count() == stage.calls, name
        assert stage.idle_s == 0 or name == "poll"
    accounted = sum(s.useful_s + s.waiting_s + s.idle_s for s in worker.stages.values())
    assert 0 < accounted <= worker.wall_s
    assert worker.cpu_s > 0
