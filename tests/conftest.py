"""Fixtures: a model and a lake, made once; a command that runs in this process."""

from __future__ import annotations

import hypothesis
import pytest

from scoreline.pipelines import score_batch
from tests.fakes import Ended, save_model, write_lake
from tests.model_zoo import save_model_of
from tests.required import NOT_TESTED

# The first example of a test may import TensorFlow: how long it takes says nothing.
hypothesis.settings.register_profile("scoreline", deadline=None)
hypothesis.settings.load_profile("scoreline")


ENGINES = ("flink", "kafka", "prism")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Give all tests of engines to one of several processes, so that each engine is started once.

    They come first: they take as long as all others. Other tests keep the files together.
    """
    for item in items:
        is_engine = any(item.get_closest_marker(name) for name in ENGINES)
        item.add_marker(pytest.mark.xdist_group("engines" if is_engine else item.path.name))
    items.sort(key=lambda item: item.get_closest_marker("xdist_group").args != ("engines",))


def pytest_terminal_summary(terminalreporter):
    """Say at the very end what was not tested because this machine lacks something."""
    skipped = terminalreporter.stats.get("skipped", ())
    reasons = {report.longrepr[2] for report in skipped if NOT_TESTED in report.longrepr[2]}
    for reason in sorted(reasons):
        terminalreporter.write_line(reason.partition(": ")[2], red=True, bold=True)


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
