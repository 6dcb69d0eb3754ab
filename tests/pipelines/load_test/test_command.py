"""The command: its exit codes, its report, and what it refuses before Beam is imported."""

from __future__ import annotations

import dataclasses
import json

import pytest

from scoreline.pipelines.load_test import command, run
from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.report.write import folder_of
from scoreline.pipelines.options.problems import BadOptions, Passing
from tests.json_output import read_object
from tests.pipelines.load_test import samples

FLAGS = ["--records=topic:t", "stream", "--brokers=h:1", "--model=m", "--keys=id"]
PROGRESS = "testing stream\n"
CODES = {"pass": 0, "fail": 4, "undecided": 4, "invalid": 5, "batch": 0}


@pytest.fixture
def tested(monkeypatch, tmp_path):
    """Return a function that runs the command on a driver with a given result."""
    monkeypatch.chdir(tmp_path)

    def call(test, *flags):
        def run_load_test(profile, say):
            say(f"testing {profile.mode}")
            return test

        monkeypatch.setattr(run, "run_load_test", run_load_test)
        return command.main([*flags, *FLAGS])

    return call


@pytest.mark.parametrize("name", samples.ALL)
def test_the_verdict_is_the_exit_code_and_the_report_is_written(tested, capsys, tmp_path, name):
    assert tested(samples.ALL[name](), "--output=reports/now") == CODES[name]
    out, err = capsys.readouterr()
    assert err == PROGRESS
    verdict = samples.ALL[name]().outcome.value.upper()
    assert out.splitlines()[1].split()[:2] == ["VERDICT", verdict]
    assert out.splitlines()[-1] == "report    reports/now/report.html"
    written = (tmp_path / "reports" / "now" / "load_test.json").read_text()
    read_object("load_test", written, CODES[name])
    assert "<!DOCTYPE html>" in (tmp_path / "reports" / "now" / "report.html").read_text()


def test_json_prints_the_document_alone(tested, capsys):
    assert tested(samples.make_failed(), "--json") == 4
    out, err = capsys.readouterr()
    document = read_object("load_test", out, 4)
    assert document["verdict"]["outcome"] == "fail"
    assert err == PROGRESS


def test_the_second_run_is_compared_with_the_first(tested, capsys):
    first = samples.make_stream(compared_with=None)
    assert tested(first) == 0
    assert "last run" not in capsys.readouterr().out
    capacity = dataclasses.replace(first.capacity, passes_per_s=12_000.0)
    started = first.started.replace(day=30)
    tested(dataclasses.replace(first, started=started, ended=started, capacity=capacity), "--json")
    compared = json.loads(capsys.readouterr().out)["compared_with"]
    assert compared["passes_per_s"] == 15_400.0
    assert not compared["capacity_within_noise"]


def test_a_report_is_in_a_folder_of_its_time():
    profile = Profile(mode="stream", argv=())
    folder = folder_of(profile, samples.make_stream())
    assert str(folder) == "build/load-test/20261128-011000"


def test_a_folder_that_cannot_be_written_costs_no_page(tested, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert tested(samples.make_stream(), "--output=file/below") == 0
    out, err = capsys.readouterr()
    assert "VERDICT   PASS" in out
    assert err == PROGRESS + (
        "The report is not written: expected a writable folder file/below: Not a directory\n"
    )


def test_settings_for_autoscalers_are_written_and_named(tested, capsys, tmp_path):
    assert tested(samples.make_failed(), "--write_scaling=for/them") == CODES["fail"]
    names = ["dataflow.txt", "flink-autoscaler.yaml", "keda-scaledobject.yaml"]
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == f"scaling   for/them: {', '.join(names)}"
    assert err == PROGRESS
    assert sorted(path.name for path in (tmp_path / "for" / "them").iterdir()) == names


def test_an_invalid_test_writes_no_settings(tested, capsys, tmp_path):
    assert tested(samples.make_invalid(), "--write_scaling=for", "--json") == CODES["invalid"]
    out, err = capsys.readouterr()
    (problem,) = read_object("load_test", out, CODES["invalid"])["problems"]
    assert problem == (
        "No settings are written: expected a valid measurement. See the line VERDICT, and run the "
        "test again."
    )
    assert err == f"{PROGRESS}{problem}\n"
    assert not (tmp_path / "for").exists()


def test_settings_that_cannot_be_written_cost_no_report(tested, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert tested(samples.make_stream(), "--write_scaling=file/below") == CODES["pass"]
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("report ")
    expected = "expected a writable folder file/below: Not a directory"
    assert err == f"{PROGRESS}--write_scaling: {expected}\n"


def test_a_batch_has_no_settings_for_autoscalers(capsys):
    flags = ["--write_scaling=for", "batch", "--input=i", "--model=m", "--keys=id"]
    assert command.main(flags) == 2
    assert "--write_scaling: expected a stream, got a batch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadOptions(["no topic"]), 2),
        (BadOptions([Passing("no broker answers")]), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_test_that_ends_early_has_no_verdict(monkeypatch, capsys, error, code):
    def fail(profile, say):
        raise error

    monkeypatch.setattr(run, "run_load_test", fail)
    assert command.main([*FLAGS[:1], "--json", *FLAGS[1:]]) == code
    out, err = capsys.readouterr()
    assert read_object("load_test", out, code)["problems"] == err.splitlines()


def test_packages_of_the_extra_that_are_missing_are_named(monkeypatch, capsys):
    monkeypatch.setattr(command, "_EXTRA", {"yaml": "pyyaml", "no_such_module": "nothing"})
    assert command.main(FLAGS) == 2
    assert capsys.readouterr().err == (
        "expected the packages of the extra load-test, but these are not installed: nothing. "
        "Run `pip install 'scoreline[load-test]'`\n"
    )
