from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from scoreline.pipelines import score_stream
from scoreline.pipelines.options.commands import parse_flags
from scoreline.pipelines.options.problems import BadOptions, Passing, Problems
from scoreline.pipelines.options.stream import read_stream
from scoreline.pipelines.plan.stream import choose_model, make_swap_spec
from scoreline.pipelines.plan.topics import as_kafka_problem, connection_of
from scoreline.pipelines.restart_stream import _without_start
from scoreline.pipelines.runners.runner import choose_runner
from scoreline.pipelines.supervise import is_failure, next_pause
from tests.fakes import run_command

GIVEN = [
    "--brokers=h:1",
    "--topic=t",
    "--group=g",
    "--model=m",
    "--keys=id",
    "--output_topic=o",
]


def settings_of(*argv):
    problems = Problems()
    given, others = parse_flags("stream", [*GIVEN, *argv], problems)
    settings = read_stream(given, problems)
    runner = choose_runner(others, streaming=True)
    problems.add_all(runner.find_problems())
    problems.add_all(
        runner.find_stream_problems(readers=settings.readers, until_end=settings.source.until_end)
    )
    problems.check()
    return settings


def problems_of(*argv):
    with pytest.raises(BadOptions) as e:
        settings_of(*argv)
    return e.value.problems


def test_options_become_settings(tmp_path):
    config = tmp_path / "client.properties"
    config.write_text("# secrets\nsasl.password = a=b\n\nsecurity.protocol=SASL_SSL\n")
    settings = settings_of(
        f"--kafka_config={config}",
        "--start=timestamp",
        "--start_time=1970-01-01T00:00:01Z",
        "--latency_target_ms=50",
        "--exactly_once",
    )
    assert settings.source.start_ms == 1000
    assert settings.latency_target_ms == 50.0
    assert settings.keys.keys == ("id",)
    client = connection_of(settings.source).settings(linger_ms=2)
    assert client.pop("reconnect.backoff.ms") < client.pop("reconnect.backoff.max.ms")
    assert client == {
        "linger.ms": 2,
        "sasl.password": "a=b",
        "security.protocol": "SASL_SSL",
        "bootstrap.servers": "h:1",
    }
    assert "a=b" not in repr(settings)


def test_everything_that_is_wrong_is_said_at_once(capsys, tmp_path):
    config = tmp_path / "client.properties"
    config.write_text("sasl.password\n")
    wrong = [
        "--format=avro",
        "--start=timestamp",
        "--latency_target_ms=0",
        "--readers=2",
        "--partitions=date=1",
        "--input=x",
        f"--kafka_config={config}",
        "--dead_letter_topic=t",
        "--no_such_flag",
        "--range=y=2..1",
        "--topic=t",
    ]
    assert score_stream.main(wrong) == 2
    err = capsys.readouterr().err
    for told in (
        "15 things are wrong",
        "--brokers is required",
        "--group is required",
        "--output_topic is required",
        "--model is required",
        "--keys is required",
        "--schema is required: the Avro writer schema",
        "--start_time: expected a time with --start=timestamp",
        "--latency_target_ms: expected a whole number of at least 1, got '0'",
        "--readers: expected 1 on the local runner, got ",
        "stream does not take --partitions; it is a flag of batch, replay, inspect and optimize",
        "stream does not take --input; it is a flag of batch, inspect and optimize",
        "line 1: expected KEY=VALUE",
        "expected different topics, got t, t",
        "unknown option --no_such_flag",
        "--range: expected",
    ):
        assert told in err, told


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--start_time=5"], "and none without"),
        (["--start=timestamp", "--start_time=2026-01-01T00:00:00"], "a time with zone"),
        (["--start=timestamp", "--start_time=soon"], "a time with zone"),
        (["--avro_schema_id=5"], "--avro_schema_id needs --format=avro"),
        (
            ["--input=x"],
            "stream does not take --input; it is a flag of batch, inspect and optimize",
        ),
        (["--output_topic="], "--output_topic is required (a topic of scores), or --output"),
        (["--output_schema_id=5"], "--output_schema_id needs --output_format=avro"),
        (
            ["--output_topic=", "--output=x", "--output_format=avro"],
            "--output_format needs --output_topic",
        ),
        (["--flush_interval_s=5"], "--flush_interval_s needs --output"),
        (["--output=x", "--flush_interval_s=0"], "a number of seconds above 0, got '0'"),
        (["--output=x", "--exactly_once"], "--exactly_once: expected no --output with it"),
        (["--output=s3://b/t?token=x"], "expected a URI without a secret"),
        (["--workers=2"], "stream does not take --workers; it is a flag of batch"),
        (["--max_value_bytes", "9"], "stream does not take --max_value_bytes; it is a flag of"),
        (
            ["--last", "3"],
            "stream does not take --last; it is a flag of batch, inspect and optimize",
        ),
        (["--heartbeat_file=/no/such/folder/file"], "expected a writable file"),
        (["--restart", "--until_end", "--start=earliest"], "leave out one of them"),
        (["--watch_model_s=0"], "--watch_model_s: expected a number of seconds above 0, got '0'"),
        (
            ["--watch_model_s=9", "--model_digest=sha256:" + "0" * 64],
            "--model_digest allows only one model",
        ),
        (["--swap_max_disagreement=1"], "--swap_max_disagreement needs --watch_model_s"),
        (["--swap_max_latency_ratio=1"], "--swap_max_latency_ratio needs --watch_model_s"),
        (
            ["--watch_model_s=9", "--swap_max_disagreement=-1"],
            "--swap_max_disagreement: expected a number of at least 0, got '-1'",
        ),
        (
            ["--watch_model_s=9", "--swap_max_latency_ratio=inf"],
            "--swap_max_latency_ratio: expected a number of at least 0, got 'inf'",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(argv, told):
    (problem,) = problems_of(*argv)
    assert told in problem


def test_a_table_alone_is_enough_and_has_a_file_each_minute():
    settings = settings_of("--output_topic=", "--output=t")
    assert (settings.sink.output_topic, settings.sink.flush_interval_s) == ("", 60.0)
    assert settings.sink.output == "t"


def test_a_setting_that_an_option_makes_is_refused_in_the_file(tmp_path):
    config = tmp_path / "client.properties"
    config.write_text("group.id=secret\n")
    (problem,) = problems_of(f"--kafka_config={config}")
    assert "line 1: group.id is set by --group" in problem
    assert "secret" not in problem


def test_brokers_are_not_urls_of_another_protocol():
    (problem,) = problems_of("--brokers=h:1,http://kafka:9092")
    assert problem == "--brokers: expected HOST:PORT,… of Kafka, got 'http://kafka:9092'"
    assert settings_of("--brokers=SASL_SSL://kafka:9093").source.brokers == "SASL_SSL://kafka:9093"


def test_an_error_of_kafka_without_words_has_its_name():
    error = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "ConsumerGroupDescribe: ")
    problem = as_kafka_problem(error, "--group: cannot read group g")
    assert problem == (
        "--group: cannot read group g: ConsumerGroupDescribe: COORDINATOR_LOAD_IN_PROGRESS"
    )
    assert isinstance(problem, Passing)


def test_a_command_never_ends_without_a_reason():
    with pytest.raises(RuntimeError, match="expected a reason"):
        BadOptions([])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1795521600", "would be 1970-01-21T18:45:21+00:00. In seconds it is 2026-11-24T12:00"),
        (
            "1795521600000000",
            "In microseconds it is 2026-11-24T12:00:00+00:00: for that, use 17955",
        ),
        ("1795521600000000000", "In nanoseconds it is 2026-11-24T12:00:00+00:00"),
        ("20261124", "would be 1970-01-01T05:37:41+00:00. For the first record, use --start=earl"),
        ("0", "would be 1970-01-01T00:00:00+00:00"),
        ("9" * 40, "would be after the year 9999"),
        ("4102444800000", "a time up to now, got '4102444800000', which is 2100-01-01T00:00:00"),
        ("2100-01-01T00:00:00Z", "which is 2100-01-01T00:00:00+00:00: the job would begin behind"),
        ("1969-12-31T23:59:59Z", "a time from 1970 on"),
        ("1795521600.5", "a time with zone"),
        ("-2", "a time with zone"),
        ("²", "a time with zone"),
        ("2026-11-24", "a time with zone"),
    ],
    ids=[
        "seconds",
        "microseconds",
        "nanoseconds",
        "date",
        "zero",
        "huge",
        "future_number",
        "future_time",
        "before_1970",
        "fraction",
        "negative",
        "superscript",
        "no_zone",
    ],
)
def test_an_implausible_start_is_refused_with_the_date_that_it_would_mean(text, told):
    (problem,) = problems_of("--start=timestamp", f"--start_time={text}")
    assert problem.startswith("--start_time: expected ")
    assert told in problem


def test_a_plausible_start_is_taken_in_both_forms():
    for text in ("1795500000000", "2026-11-24T06:00:00Z", "2026-11-24T08:00:00+02:00"):
        settings = settings_of("--start=timestamp", f"--start_time={text}")
        assert settings.source.start_ms == 1795500000000


def test_credentials_of_a_registry_are_checked_before_the_job(tmp_path):
    config = tmp_path / "client.properties"
    config.write_text("schema.registry.bearer.auth.client.secret=hidden\n")
    argv = ["--format=avro", "--schema_registry=http://h:1", f"--kafka_config={config}"]
    (problem,) = problems_of(*argv)
    assert "--kafka_config: " in problem
    assert "schema.registry.bearer.auth.credentials.source=OAUTHBEARER" in problem
    assert "hidden" not in problem
    config.write_text("schema.registry.basic.auth.token=hidden\n")
    (problem,) = problems_of(*argv)
    assert "line 1" in problem
    assert "hidden" not in problem


def test_several_readers_are_for_runners_that_run_them_side_by_side():
    argv = ["--readers=3", "--runner=PrismRunner", "--prism_location=p"]
    assert settings_of(*argv).readers == 3


def test_a_restarted_stream_continues_at_the_offsets_of_the_group():
    argv = ["--topic=t", "--start=timestamp", "--start_time", "5", "--start", "x", "--group=g"]
    assert _without_start(argv) == ["--topic=t", "--group=g"]


def test_pauses_double_up_to_a_minute_and_begin_again_after_a_steady_run():
    pauses, failures = [], 0
    for _ in range(9):
        pause = next_pause(failures, 1.0)
        failures = pause.failures
        pauses.append(pause.seconds)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert next_pause(failures, 61.0) == (1, 1)


def test_an_unreachable_broker_is_a_failure_unless_options_are_wrong_too():
    away = Passing("--brokers: expected Kafka at …")
    assert is_failure(BadOptions([away, away]).exit_code)
    assert not is_failure(BadOptions([away, "--keys is required"]).exit_code)


def test_wrong_options_and_ends_are_not_failures():
    assert [is_failure(code) for code in (1, -9, -15, 0, 2, 3, 130)] == [True] * 3 + [False] * 4


def test_of_a_watched_folder_the_version_that_serves_is_begun_with(tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}.tflite").write_bytes(b"model")
    given = settings_of(
        f"--model={tmp_path}",
        "--watch_model_s=0.5",
        "--swap_max_disagreement=0.01",
        "--swap_max_latency_ratio=3",
    )
    problems = Problems()
    assert choose_model(given, problems).path == str(tmp_path / "2.tflite")
    (tmp_path / "SERVING").write_text("1.tflite")
    assert choose_model(given, problems).path == str(tmp_path / "1.tflite")
    assert not problems
    assert make_swap_spec(given, "signature") == (str(tmp_path), 0.5, 0.01, 3.0, "signature")

    alone = settings_of(f"--model={tmp_path / '1.tflite'}", "--watch_model_s=0.5")
    assert choose_model(alone, problems) is None
    (problem,) = problems
    assert "--model: expected a folder of versions with --watch_model_s. " in problem
    assert "expected a directory of model versions 1, 2, …, got a model itself" in problem

    plain = settings_of("--model=m")
    assert choose_model(plain, problems) is plain.model
    assert make_swap_spec(plain, "signature") is None


def test_a_batch_job_watches_no_model():
    ended = run_command("scoreline", "batch", "--watch_model_s=1")
    assert ended.code == 2
    assert "batch does not take --watch_model_s; it is a flag of stream" in ended.err
