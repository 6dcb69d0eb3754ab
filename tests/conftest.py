"""Fixtures: a model and a lake, made once; a command that runs in this process."""

from __future__ import annotations

import subprocess

import hypothesis
import pytest

from scoreline.pipelines import score_batch
from tests.fakes import Ended, save_model, write_lake
from tests.model_zoo import save_model_of

# The first example of a test may import TensorFlow: how long it takes says nothing.
hypothesis.settings.register_profile("scoreline", deadline=None)
hypothesis.settings.load_profile("scoreline")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "linear")


@pytest.fixture(scope="session")
def lake(tmp_path_factory):
    """Three days of 300 rows in two files each; nobody may change it."""
    return write_lake(tmp_path_factory.mktemp("lake") / "rows")


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """Return a function that saves a kind of `tests.model_zoo`, once for all tests."""
    saved: dict[str, str] = {}

    def path_of(kind):
        if kind not in saved:
            saved[kind] = save_model_of(kind, tmp_path_factory.mktemp("zoo"))
        return saved[kind]

    return path_of


@pytest.fixture
def score(capsys, monkeypatch, tmp_path, model, lake):
    """Run score_batch in this process, on the shared lake and model unless told otherwise."""
    monkeypatch.setenv("COLUMNS", "400")

    def run(*args: str, **options: object) -> Ended:
        given = {"input": lake, "model": model, "keys": "id", "output": tmp_path / "scores"}
        given.update(options)
        flags = [f"--{name}={value}" for name, value in given.items() if value is not None]
        capsys.readouterr()
        code = score_batch.main([*flags, *args])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root; the disk-full test was not run")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
