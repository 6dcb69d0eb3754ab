"""Fixtures of load tests: a broker, and a stream with something planted."""

import uuid

import orjson
import pytest

from demo.waiting_model import save_waiting
from scoreline.pipelines.load_test.driver.loads import StreamSubject
from scoreline.pipelines.load_test.driver.stream import StreamDriver
from scoreline.transforms.kafka.client import Connection
from tests.integration.conftest import broker  # noqa: F401  a fixture
from tests.timed_models import save_busy


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return the path of a model by its name: quick, busy (about 200 µs a row), waiting (1 ms).

    A batch of a backlog has 8,192 rows, so `pausing` (100 µs) is for tests of seconds.
    """
    folder = tmp_path_factory.mktemp("models")
    return {
        "quick": save_busy(folder / "quick", products_per_row=0),
        "busy": save_busy(folder / "busy", products_per_row=12),
        "pausing": save_waiting(folder / "pausing", us_per_row=100),
        "waiting": save_waiting(folder / "waiting", us_per_row=1000),
    }


@pytest.fixture
def start(broker, planted, tmp_path):  # noqa: F811  the fixture above
    """Return a function that makes the driver of a stream; all of them end with the test."""
    broker.start()
    drivers = []

    def make(model, *flags, partitions=4, values=None, send_to=(), runner=()):
        schema = tmp_path / "schema.json"
        schema.write_text('{"id": "int64"}')
        rows = [orjson.dumps({"id": i, "x": i / 7}) for i in range(1000)]
        subject = StreamSubject(
            connection=Connection(brokers=broker.address),
            argv=(f"--model={planted[model]}", "--keys=id", f"--schema={schema}", *flags, *runner),
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
