"""Options of a stream on Flink, and the placement of its readers; needs no cluster."""

from __future__ import annotations

from collections import Counter

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from scoreline.pipelines.options.problems import BadOptions
from scoreline.pipelines.runners.flink_keys import key_group, spread_keys
from scoreline.pipelines.runners.flink_rest import FlinkRest
from scoreline.pipelines.runners.runner import choose_runner
from scoreline.pipelines.runners.workarounds import hand_over_timers_at_once


@pytest.mark.parametrize(
    ("key", "of_128", "of_1000"),
    [("0-0", 115, 363), ("1-1", 38, 830), ("2-17", 88, 608), ("0-5", 6, 966), ("x", 65, 105)],
)
def test_key_group_is_flinks(key, of_128, of_1000):
    """The numbers come from KeyGroupRangeAssignment and Beam's FlinkKey in Java."""
    assert (key_group(key, 128), key_group(key, 1000)) == (of_128, of_1000)


@pytest.mark.parametrize(("slots", "groups"), [(1, 128), (2, 128), (3, 128), (7, 128), (40, 320)])
def test_keys_are_spread_evenly_over_any_number_of_tasks(slots, groups):
    keys = spread_keys(slots, groups)
    assert len(set(keys)) == slots
    for tasks in range(1, slots + 1):
        # KeyGroupRangeAssignment.computeOperatorIndexForKeyGroup
        loads = Counter(key_group(key, groups) * tasks // groups for key in keys)
        assert set(loads) == set(range(tasks))
        assert max(loads.values()) - min(loads.values()) <= 1


def test_more_keys_than_key_groups_are_still_different():
    assert len(set(spread_keys(5, 3))) == 5


def test_a_stream_gets_checkpoints_and_the_clusters_own_restarts():
    argv = ["--runner=flink", "--flink_master=h:1", "--checkpointing_interval=500"]
    argv.append("--flink_job_server_jar=http://h/runner.jar")
    runner = choose_runner(argv, streaming=True)
    known = runner.options.get_all_options()
    assert known["checkpointing_interval"] == "500"
    assert known["finish_bundle_before_checkpointing"] == "true"
    assert known["retain_externalized_checkpoints_on_cancellation"] == "true"
    assert known["number_of_execution_retries"] is None
    assert not runner.find_problems()
    assert not runner.find_stream_problems(readers=3, until_end=False)


def test_bundles_of_transactions_end_sooner_unless_another_time_is_given():
    argv = ["--runner=flink", "--flink_master=h:1"]
    asked = ["--max_bundle_time_mills=5"]
    times = [
        choose_runner(
            [*argv, *flags], streaming=True, transactions=transactions
        ).options.get_all_options()["max_bundle_time_mills"]
        for flags, transactions in (([], False), ([], True), (asked, False), (asked, True))
    ]
    assert times == ["200", "10", "5", "5"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], ["data_buffer_size_limit=1"]),
        (["x"], ["x", "data_buffer_size_limit=1"]),
        (["data_buffer_size_limit=9"], ["data_buffer_size_limit=9"]),
    ],
)
def test_timers_are_handed_over_at_once_unless_the_buffer_is_set(given, found):
    options = PipelineOptions([f"--experiments={name}" for name in given])
    hand_over_timers_at_once(options)
    assert options.get_all_options()["experiments"] == found


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--finish_bundle_before_checkpointing=false", "records that are not sent yet"),
        ("--finish_bundle_before_checkpointing=FALSE", "records that are not sent yet"),
        ("--checkpointing_interval=-1", "expected milliseconds, got -1"),
        ("--environment_cache_millis=5", "--environment_cache_millis: expected 0"),
        ("--until_end", "a stream on Flink has no end"),
    ],
)
def test_options_that_lose_or_double_records_on_flink_are_refused(flag, told):
    runner = choose_runner(["--runner=flink", flag], streaming=True)
    until_end = flag == "--until_end"
    (problem,) = runner.find_stream_problems(readers=1, until_end=until_end)
    assert told in problem


@pytest.mark.parametrize(
    ("state", "exit_code"), [("RUNNING", 2), ("RESTARTING", 2), ("CANCELLING", 1), ("FAILING", 1)]
)
def test_a_job_of_the_group_is_in_the_way_and_one_that_is_ending_for_a_while(
    monkeypatch, state, exit_code
):
    runner = choose_runner(["--runner=flink", "--flink_master=h:1"], streaming=True)
    jobs = [("scoreline t as other x", "RUNNING"), ("scoreline t as g x", state)]
    monkeypatch.setattr(FlinkRest, "jobs", lambda self: jobs)
    with pytest.raises(BadOptions, match=f"which is {state}") as refused:
        runner.refuse_second_job("t", "g")
    assert refused.value.exit_code == exit_code
