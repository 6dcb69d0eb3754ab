"""The profiles of the demo are ones that the load test accepts."""

from __future__ import annotations

import pytest
import yaml

from demo.run_load_test import PROFILES
from scoreline.pipelines.load_test.profile import scale_argv
from scoreline.pipelines.load_test.read_profile import read_profile
from scoreline.pipelines.options.load_test import LoadTestSettings
from scoreline.pipelines.options.problems import Problems
from tests.fakes import ROOT


@pytest.fixture
def profile_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build" / "flights").mkdir(parents=True)
    (tmp_path / "build" / "flights.schema.json").write_text('{"flight_id": "int64"}')

    def read(name):
        settings = LoadTestSettings(profile=str(ROOT / PROFILES[name]))
        return read_profile(settings, Problems())

    return read


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_has_no_problem(profile_of, name):
    assert profile_of(name).mode == ("batch" if name == "batch" else "stream")


def test_the_flink_cluster_gets_as_many_slots_as_workers(profile_of):
    profile = profile_of("flink")
    assert profile.workers == (1, 2)
    wanted = "-m deploy.local.flink_cluster scale --task_managers 2 --slots 1"
    assert " ".join(scale_argv(profile, 2)[1:]) == wanted
    assert profile_of("flink_fixed").scale_command == ()


def test_all_streams_score_with_the_same_flags():
    streams = [
        yaml.safe_load((ROOT / path).read_text()).get("stream") for path in PROFILES.values()
    ]
    ours = ("runner", "flink_master", "environment_config")
    plain = [{k: v for k, v in s.items() if k not in ours} for s in streams if s]
    assert len(plain) == 3
    assert all(each == plain[0] for each in plain)
