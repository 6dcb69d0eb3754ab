"""Streams whose model is swapped while they run, on a real broker, with real models."""

from __future__ import annotations

import itertools
import json

import pytest

from scoreline.models.artifact import digest_model
from tests.kafka import (
    as_json,
    committed,
    make_producer,
    read_all,
    rows,
    scores_of,
    send,
    stop,
    wait_until,
)
from tests.model_zoo import save_keras_3_export, save_litert

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
CHUNK = 1100  # more than a sample
WEIGHT = {"good": 2.0, "near": 2.001, "far": -2.0, "renamed": 2.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Contents of model files: y = weight·a + b; one has the output z, one is truncated."""
    path = tmp_path_factory.mktemp("models") / "model.tflite"
    made = {}
    for kind, weight in WEIGHT.items():
        save_litert(path, weight=weight, output="z" if kind == "renamed" else "y")
        made[kind] = path.read_bytes()
    return {**made, "broken": made["near"][:-200]}


class Stream:
    """A running stream with small input chunks, and the folder of its model's versions."""

    def __init__(self, address, topics, folder):
        self._address, self._topics, self._folder = address, topics, folder
        self._producer = make_producer(address)
        self.sent = 0

    def add(self, number, content):
        partial = self._folder / "partial"
        partial.write_bytes(content)
        partial.rename(self._folder / f"{number}.tflite")

    def digest(self, number):
        file = self._folder / f"{number}.tflite"
        return digest_model(str(file if file.exists() else self._folder / str(number)))

    def feed_until(self, condition):
        """Send rows and wait for their scores, repeatedly until a condition is true."""

        def holds():
            send(self._producer, self._topics[0], as_json(rows(self.sent, CHUNK)))
            self.sent += CHUNK
            wait_until(lambda: self._done() >= self.sent)
            return condition()

        wait_until(holds)

    def _done(self):
        offsets = committed(self._address, f"group-of-{self._topics[0]}", self._topics[0])
        return sum(max(offset, 0) for offset in offsets.values())

    def last_digest(self):
        last = max(scores_of(self._address, self._topics[1]), key=lambda s: s["id"])
        return last["model_digest"]

    def assert_scored(self, *versions):
        """Check that each row has one score of the model in its digest, and the order of models."""
        order = [self.digest(number) for number, _ in versions]
        weights = {self.digest(number): WEIGHT[kind] for number, kind in versions}
        messages = read_all(self._address, self._topics[1])
        scores = [json.loads(m.value()) for m in messages]
        assert sorted(s["id"] for s in scores) == list(range(self.sent))
        for score in scores:
            wanted = weights[score["model_digest"]] * score["id"] / 2
            assert score["y"] == pytest.approx(wanted, rel=1e-5)
        for partition in {m.partition() for m in messages}:
            mine = [
                s["model_digest"]
                for m, s in zip(messages, scores, strict=True)
                if m.partition() == partition
            ]
            assert [digest for digest, _ in itertools.groupby(mine)] == order


@pytest.fixture
def stream(broker, topics, tmp_path, models):
    folder = tmp_path / "versions"
    folder.mkdir()
    stream = Stream(broker.address, topics, folder)
    stream.add(1, models["good"])
    return stream


def test_a_stream_swaps_models_refuses_bad_ones_and_rolls_back(
    stream, stream_arguments, start_stream, models, tmp_path
):
    folder = tmp_path / "versions"
    # A call of a SavedModel takes several times as long as one of a small .tflite.
    watch = {"model": folder, "watch_model_s": 0.1, "swap_max_latency_ratio": 100}
    process = start_stream(stream_arguments(**watch))
    stream.feed_until(lambda: True)
    stream.add(2, models["near"])
    stream.feed_until(lambda: stream.last_digest() == stream.digest(2))
    for number, kind in ((3, "far"), (4, "broken"), (5, "renamed")):
        stream.add(number, models[kind])
        mark = folder / f"{number}.tflite.refused"
        stream.feed_until(mark.exists)
    (folder / "SERVING").write_text("1.tflite\n")
    stream.feed_until(lambda: stream.last_digest() == stream.digest(1))
    save_keras_3_export(tmp_path / "saved_model")  # a folder may replace a file
    (tmp_path / "saved_model").rename(folder / "6")
    (folder / "SERVING").unlink()
    stream.feed_until(lambda: stream.last_digest() == stream.digest(6))
    printed = stop(process)
    stream.assert_scored((1, "good"), (2, "near"), (1, "good"), (6, "good"))
    assert printed.count("took over from") == 3
    assert printed.count(" is refused (") == 3
    for told in (
        "Model 2.tflite took over from 1.tflite",
        "Model 3.tflite is refused",
        "at most 0.2 (--swap_max_disagreement)",
        "output 'z' is new",
        "Model 1.tflite took over from 2.tflite",
        "Model 6 took over from 1.tflite",
    ):
        assert told in printed, printed


def test_a_model_in_its_own_process_is_swapped_too_exactly_once(
    stream, stream_arguments, start_stream, models, tmp_path
):
    flags = stream_arguments(
        "--exactly_once", model=tmp_path / "versions", watch_model_s=0.1, batch_timeout_s=60
    )
    process = start_stream(flags)
    stream.feed_until(lambda: True)
    stream.add(2, models["near"])
    stream.feed_until(lambda: stream.last_digest() == stream.digest(2))
    stop(process)
    stream.assert_scored((1, "good"), (2, "near"))
