"""Load tests: a broker, streams with something planted, and a tally of repeated tests."""

import collections
import os
import re
import uuid

import orjson
import pytest

from demo.waiting_model import save_waiting
from scoreline.pipelines.load_test.driver.loads import StreamSubject
from scoreline.pipelines.load_test.driver.stream import StreamDriver
from scoreline.transforms.kafka.client import Connection
from tests.flink import start_cluster
from tests.integration.conftest import broker, prism  # noqa: F401  fixtures
from tests.load.planted_op import build_op, save_planted
from tests.timed_models import save_busy

REPEATS = int(os.environ.get("SCORELINE_PLANT_REPEATS", "1"))


def pytest_generate_tests(metafunc):
    """Run each whole load test as often as `make load-plants REPEATS=10` asks for."""
    if REPEATS > 1 and metafunc.definition.get_closest_marker("load"):
        metafunc.fixturenames.append("turn")
        metafunc.parametrize("turn", range(1, REPEATS + 1))


def pytest_terminal_summary(terminalreporter):
    """Print how often each plant was found, and what was reported otherwise."""
    called = [
        report
        for outcome in ("passed", "failed", "error")
        for report in terminalreporter.stats.get(outcome, ())
        if "load" in report.keywords and (report.when == "call" or outcome == "error")
    ]
    found = collections.defaultdict(list)
    for report in called:
        turn_left_out = re.sub(
            r"\[\d+(?:-|\])", lambda m: "[" * m[0].endswith("-"), report.location[2]
        )
        found[turn_left_out].append(report)
    if found:
        terminalreporter.section("plants: right of asked")
    for name, reports in found.items():
        wrong = collections.Counter(_describe(report) for report in reports if not report.passed)
        right = sum(report.passed for report in reports)
        seconds = sum(report.duration for report in reports) / len(reports)
        terminalreporter.write_line(f"{right:3} of {len(reports):3}  {seconds:5.0f} s  {name}")
        for text, times in wrong.most_common():
            terminalreporter.write_line(f"{times:12} ×  {text}")


def _describe(report):
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr)).partition("\n")[0][:120]


@pytest.fixture(scope="session")
def model_flag(tmp_path_factory):
    """Return a function from a model's name to its flag.

    The names are quick, busy (about 200 µs a row) and waiting (1 ms). A batch of a backlog has
    8,192 rows, so `pausing` (100 µs) is for tests of seconds.
    """
    folder = tmp_path_factory.mktemp("models")
    paths = {
        "quick": save_busy(folder / "quick", products_per_row=0),
        "busy": save_busy(folder / "busy", products_per_row=12),
        "pausing": save_waiting(folder / "pausing", us_per_row=100),
        "waiting": save_waiting(folder / "waiting", us_per_row=1000),
    }
    return lambda name: f"--model={paths[name]}"


@pytest.fixture(scope="session")
def op_library(tmp_path_factory):
    """Return the path of the library of the op `Planted`."""
    return build_op(tmp_path_factory.mktemp("ops") / "planted.so")


@pytest.fixture
def plant(op_library, tmp_path):
    """Return a function that saves a model with the op, and returns the flags that name it.

    It takes the arguments of `save_planted`.
    """

    def save(**arguments):
        path = save_planted(tmp_path / "planted", op_library, **arguments)
        return f"--model={path}", f"--load_op_library={op_library}"

    return save


@pytest.fixture
def on_prism(prism):  # noqa: F811  the fixture above
    """Return the flags of Prism, on which a stream has several readers."""
    return "--runner=PrismRunner", f"--prism_location={prism}"


@pytest.fixture(scope="module")
def on_flink(tmp_path_factory):
    """Return the flags of a Flink cluster with 12 slots, which run side by side in one process."""
    with start_cluster(tmp_path_factory.mktemp("flink"), 1, slots=12) as cluster:
        yield tuple(cluster.arguments)


@pytest.fixture
def start(broker, tmp_path):  # noqa: F811  the fixture above
    """Return a function that makes the driver of a stream; all of them end with the test.

    It takes the flags of `scoreline stream`, its model among them.
    """
    broker.start()
    drivers = []

    def make(*flags, partitions=4, values=None, send_to=(), client_settings=""):
        schema = tmp_path / "schema.json"
        schema.write_text('{"id": "int64"}')
        rows = [orjson.dumps({"id": i, "x": i / 7}) for i in range(1000)]
        subject = StreamSubject(
            connection=Connection(brokers=broker.address, config=client_settings),
            argv=("--keys=id", f"--schema={schema}", *flags),
            values=tuple(values or rows),
            partitions=partitions,
            send_to=send_to,
        )
        folder = tmp_path / f"driver-{len(drivers)}"
        driver = StreamDriver(subject, folder, uuid.uuid4().hex[:8], lambda workers: None)
        drivers.append(driver)
        return driver.__enter__()

    yield make
    for driver in drivers:
        driver.__exit__(None, None, None)
