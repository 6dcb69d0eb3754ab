"""Fixtures that read a profile."""

from __future__ import annotations

import pytest

from scoreline.pipelines.options.problems import BadOptions
from tests.pipelines.load_test.profiles import read


@pytest.fixture
def profile_of(tmp_path, monkeypatch):
    """Return a function that reads a text as profile.yaml."""
    monkeypatch.chdir(tmp_path)

    def call(text, *flags):
        (tmp_path / "profile.yaml").write_text(text, "utf-8")
        return read("--profile=profile.yaml", *flags)

    return call


@pytest.fixture
def problems_of(profile_of):
    """Return a function that returns the problems of a profile, without its name."""

    def call(text, *flags):
        with pytest.raises(BadOptions) as e:
            profile_of(text, *flags)
        assert e.value.exit_code == 2
        return [problem.removeprefix("profile.yaml, ") for problem in e.value.problems]

    return call
