"""Fixtures: a shared model and lake, and a command that runs in this process."""

from __future__ import annotations

import fcntl
import os
import signal

import hypothesis
import pytest

from scoreline.pipelines import score_batch
from tests.fakes import Ended, save_model, write_lake
from tests.model_zoo import save_model_of
from tests.packages import build, clone
from tests.required import NOT_TESTED

# The first example of a test may import TensorFlow, so its duration is meaningless.
hypothesis.settings.register_profile("scoreline", deadline=None)
hypothesis.settings.load_profile("scoreline")


ENGINES = ("flink", "kafka", "prism", "spark")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Group tests for several processes: by engine, which then starts once, or by file.

    A broker starts in seconds, so each process has its own, and tests on Kafka are grouped by file.
    Streams on Flink belong to Flink. Engines run first, because they take longest, then files with
    slow tests: a long group that starts last would run alone.
    """

    def engine_of(item):
        return next((name for name in ENGINES if item.get_closest_marker(name)), None)

    def file_of(item):
        return item.nodeid.partition("::")[0]

    slow_files = {file_of(item) for item in items if item.get_closest_marker("slow")}

    def turn_of(item):
        if engine_of(item):
            return 0
        return 1 if file_of(item) in slow_files else 2

    for item in items:
        engine = engine_of(item)
        group = file_of(item) if engine in (None, "kafka") else engine
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=turn_of)


def pytest_terminal_summary(terminalreporter):
    """Report at the end the tests that were skipped because this machine lacks something."""
    skipped = terminalreporter.stats.get("skipped", ())
    reasons = {report.longrepr[2] for report in skipped if NOT_TESTED in report.longrepr[2]}
    for reason in sorted(reasons):
        terminalreporter.write_line(reason.partition(": ")[2], red=True, bold=True)


@pytest.fixture(scope="session", autouse=True)
def heeded_interrupts():
    """Make processes that tests start heed SIGINT.

    A shell starts background commands with SIGINT ignored, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "linear")


@pytest.fixture(scope="session")
def lake(tmp_path_factory):
    """Three days of 300 rows in two files each. Read only: all tests share it."""
    return write_lake(tmp_path_factory.mktemp("lake") / "rows")


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Return a function that makes a file or folder once for all test processes.

    It takes a name and a function that makes it at the path it gets.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "once"
    shared.mkdir(exist_ok=True)

    def path_of(name, make):
        path = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
            if not path.exists():
                made = tmp_path_factory.mktemp("made") / name
                make(made)
                os.rename(made, path)
        return path

    return path_of


@pytest.fixture(scope="session")
def zoo(once):
    """Return a function from a kind of `tests.model_zoo` to the path of its model."""
    return lambda kind: str(once(kind, lambda path: save_model_of(kind, path)))


@pytest.fixture(scope="session")
def archives(once):
    """The sdist of a clone, and the wheel that is built from it."""
    folder = once("archives", lambda path: build(clone(path / "clone"), path / "dist")) / "dist"
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


@pytest.fixture
def score(capsys, monkeypatch, tmp_path, model, lake):
    """Run score_batch in this process, by default on the shared lake and model."""
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
