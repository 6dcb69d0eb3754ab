"""Stage times of streams on a real broker, and streams of which one stage does nothing."""

from __future__ import annotations

import dataclasses
import functools
import json

import pytest

from scoreline.pipelines import score_stream
from scoreline.pipelines.plan.null_stage import without_stage
from scoreline.transforms import stage_times
from scoreline.transforms.stage_times import STAGES, read_stage_times
from tests.kafka import (
    as_json,
    assert_scored,
    count_of,
    make_producer,
    read_all,
    records_done,
    rows,
    scores_of,
    send,
)

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


@pytest.mark.parametrize("stages", [("predict",), ("decode",), ("send",), ("features", "predict")])
def test_a_null_stage_leaves_every_record_to_the_others(
    broker, topics, stream_arguments, build_with, stages, capsys
):
    build_with(lambda plan: functools.reduce(without_stage, stages, plan))
    some = rows(7, 1000)
    send(make_producer(broker.address), topics[0], as_json(some))
    assert score_stream.main(stream_arguments("--until_end")) == 0
    assert "scored 1,000, dead letters 0" in capsys.readouterr().out
    assert records_done(broker, topics) == 1000
    scores = [json.loads(message.value()) for message in read_all(broker.address, topics[1])]
    if stages == ("send",):
        assert scores == []
        return
    assert len({(score["source_partition"], score["source_offset"]) for score in scores}) == 1000
    assert {score["model_digest"].partition(":")[0] for score in scores} == {
        f"without({','.join(stages)})"
    }
    if "predict" in stages:
        assert {score["y"] for score in scores} == {0.0}
    if "decode" not in stages:
        assert sorted(score["id"] for score in scores) == [row["id"] for row in some]


def test_without_its_transactions_a_stream_commits_offsets(
    broker, topics, stream_arguments, build_with
):
    def without(plan):
        found = without_stage(plan, "commit")
        with pytest.raises(ValueError, match="expected a stream with exactly_once"):
            without_stage(found, "commit")
        with pytest.raises(ValueError, match=r"expected a stage of decode, .*, got 'read'"):
            without_stage(found, "read")
        return found

    build_with(without)
    send(make_producer(broker.address), topics[0], as_json(rows(0, 1000)))
    assert score_stream.main(stream_arguments("--until_end", "--exactly_once")) == 0
    assert records_done(broker, topics) == 1000
    # Each transaction would end with a marker, which takes an offset.
    assert count_of(broker.address, topics[1]) == 1000
