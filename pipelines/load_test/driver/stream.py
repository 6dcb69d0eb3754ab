"""Drives a stream: starts it on topics of its own, loads it, and records what it does."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from scoreline.pipelines.load_test.driver.child import Child
from scoreline.pipelines.load_test.driver.collect import Collection
from scoreline.pipelines.load_test.driver.ids import (
    MAX_RECORDS,
    open_seen,
    open_sent,
    scored_at,
)
from scoreline.pipelines.load_test.driver.loads import HARNESS, Drained, Offer, StreamSubject
from scoreline.pipelines.load_test.driver.lost import find_lost
from scoreline.pipelines.load_test.driver.machine import Machine
from scoreline.pipelines.load_test.driver.send import Load, write_load, write_values
from scoreline.pipelines.load_test.driver.subject import Facts, Subject, read_facts
from scoreline.pipelines.load_test.driver.topics import Topics, delete_topics, make_topics
from scoreline.pipelines.load_test.driver.worker_times import to_worker_times
from scoreline.pipelines.load_test.judge.elements import (
    Window,
    WorkerTimes,
)
from scoreline.pipelines.load_test.result import ModelAlone
from scoreline.pipelines.options.problems import BadOptions
from scoreline.transforms.stage_times import read_stage_times

MIN_MOMENTS, MAX_LONGER = 5, 4
_POLL_S = 0.05
# The sender needs this long to start, to read its values and to reach the broker.
_LEAD_S = 2.5
_READY_S = 180.0
# How long scores are waited for after a window, as a share of it, and at most.
_PATIENCE_SHARE = 0.5
_MAX_PATIENCE_S = 30.0
_MIN_PATIENCE_S = 15.0
_END_OF_SEND_S = 120.0
_MODEL_S = 300.0


class StreamDriver:
    """Runs one stream after the other, each on its own topics.

    Use it as a context: at its end, also after an exception, all processes that it started have
    ended and all topics that it made are deleted.
    """

    def __init__(
        self, subject: StreamSubject, folder: Path, run: str, scale: Callable[[int], None]
    ) -> None:
        """Start nothing yet.

        Args:
          subject: the stream.
          folder: a folder for its files.
          run: unique name of the load test, for topics.
          scale: called with the number of workers before each start with another number.
        """
        self._subject, self._folder, self._run, self._scale = subject, folder, run, scale
        self._number = 0
        self._sent = 0  # number of records of the topic so far
        self._workers = 0
        self._replaced = ""
        self._topics: Topics | None = None
        self._scorer: Child | None = None
        self._collector: Child | None = None
        self._sender: Child | None = None
        self._machine = Machine()
        self._facts: Facts | None = None
        self.kept_topics: list[str] = []

    def __enter__(self) -> StreamDriver:
        """Start to watch the machine."""
        self._machine.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        try:
            self.stop()
        finally:
            self._machine.stop()

    @property
    def facts(self) -> Facts:
        """What the plan of the stream says; known after the first start."""
        if self._facts is None:
            raise ValueError("expected a stream that was started")
        return self._facts

    @property
    def topic(self) -> str:
        """The topic of the records, and the name of the group that reads them."""
        if self._topics is None:
            raise ValueError("expected a stream that was started")
        return self._topics.records

    def start(self, *, workers: int = 1, replaced: str = "", backlog: int = 0) -> float | None:
        """Start the stream on new topics, and wait until it scores.

        Its topic has records before: `backlog`, or one for each partition. Returns the seconds from
        the start of the command to the first score; None with a backlog, for which it does not
        wait.

        Args:
          workers: its readers.
          replaced: the stage to replace by one that does nothing; HARNESS for the whole pipeline.
          backlog: number of records to work off.

        Raises:
          BadOptions: the stream refuses its options, its model or its topics.
          ChildEnded: it ended, or it did not score.
        """
        self.stop()
        if workers != self._workers:
            self._scale(workers)
        self._number += 1
        self._workers, self._replaced, self._sent = workers, replaced, 0
        at = self._here
        at.mkdir(parents=True)
        (at / "stages").mkdir()
        subject, connection = self._subject, self._subject.connection
        topics = make_topics(connection, self._run, self._number, subject.partitions)
        self._topics = topics
        write_values(at, subject.values)
        collection = Collection(
            brokers=connection.brokers,
            config=connection.config,
            scores=topics.scores,
            dead_letters=topics.dead_letters,
        )
        (at / "collect.json").write_text(json.dumps(dataclasses.asdict(collection)))
        self._seen = open_seen(at)
        self._collector = Child("collect", at, "the reader of scores")
        self._send_at_once(backlog or subject.partitions)
        run = Subject(
            command="stream",
            argv=(*subject.argv, *self._own_flags(topics)),
            stage_times=str(at / "stages"),
            replaced=replaced,
        )
        (at / "subject.json").write_text(json.dumps(dataclasses.asdict(run)))
        module = "echo" if replaced == HARNESS else "subject"
        began_s = time.time()
        self._scorer = Child(module, at, "the stream")
        self._machine.set_workers([self._scorer.pid])
        self._facts = self._await_facts(at)
        if backlog:
            return None
        self._await_scores(subject.partitions, _READY_S)
        return float(self._seen.scored_s[: subject.partitions].min()) - began_s

    def _own_flags(self, topics: Topics) -> tuple[str, ...]:
        return (
            f"--brokers={self._subject.connection.brokers}",
            f"--topic={topics.records}",
            f"--output_topic={topics.scores}",
            f"--dead_letter_topic={topics.dead_letters}",
            f"--group={topics.records}",
            f"--readers={self._workers}",
        )

    @property
    def _here(self) -> Path:
        return self._folder / f"start-{self._number}"

    def _await_facts(self, at: Path) -> Facts:
        """Wait for the plan of the stream.

        Raises:
          BadOptions: the stream ended before.
        """
        assert self._scorer is not None  # noqa: S101
        deadline = time.monotonic() + _READY_S
        while (facts := read_facts(at)) is None:
            if not self._scorer.is_running() or time.monotonic() > deadline:
                raise BadOptions([f"stream: {self._scorer.last_words()}"])
            time.sleep(_POLL_S)
        return facts

    def _await_scores(self, count: int, seconds: float) -> None:
        """Wait until `count` records from the first on are scored.

        Raises:
          ChildEnded: a process ended before.
          TimeoutError: they are not after that time.
        """
        deadline = time.monotonic() + seconds
        while (there := np.count_nonzero(self._seen.scored_s[:count])) < count:
            self._require_running()
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"expected the stream to score {count:,} records within {seconds:.0f} s, got "
                    f"{there:,}. Its log is {self._here / 'subject.log'}"
                )
            time.sleep(_POLL_S)

    def _require_running(self) -> None:
        for child in (self._scorer, self._collector):
            if child is not None:
                child.require_running()

    def _load(self, count: int, begin_s: float) -> Load:
        """Return a load of the next records."""
        assert self._topics is not None  # noqa: S101
        if self._sent + count > MAX_RECORDS:
            raise ValueError(
                f"expected at most {MAX_RECORDS:,} records for one start of a stream, got "
                f"{self._sent + count:,}. Start it again, or offer a shorter window"
            )
        connection = self._subject.connection
        load = Load(
            brokers=connection.brokers,
            config=connection.config,
            topic=self._topics.records,
            partitions=self._send_to,
            first=self._sent,
            count=count,
            begin_s=begin_s,
        )
        self._sent += count
        return load

    def _send_at_once(self, count: int) -> None:
        write_load(self._here, self._load(count, 0.0), None)
        self._end_sender(Child("send", self._here, "the sender"))

    def _end_sender(self, sender: Child) -> None:
        self._sender = sender
        try:
            if sender.wait(_END_OF_SEND_S):
                sender.require_running()
        finally:
            sender.end()
            self._sender = None

    def offer(self, offer: Offer) -> Window:
        """Offer a load to the running stream, and return what happened.

        It waits for the scores of the window, for up to half of its length. If some are missing
        then, the next load needs a new start.

        Raises:
          ChildEnded: a process ended.
        """
        self._require_running()
        first, count = self._sent, offer.due_s.size
        begin_s = time.time() + _LEAD_S
        write_load(self._here, self._load(count, begin_s), offer.due_s)
        self._sender = Child("send", self._here, "the sender")
        window = (begin_s + offer.warm_up_s, begin_s + offer.warm_up_s + offer.window_s)
        self._watch_until(window[1])
        self._end_sender(self._sender)
        patience = min(_MAX_PATIENCE_S, max(_MIN_PATIENCE_S, offer.window_s * _PATIENCE_SHARE))
        deadline = time.time() + patience
        while not self._all_scored(first, count) and time.time() < deadline:
            self._require_running()
            time.sleep(_POLL_S)
        return self._to_window(offer, first, begin_s, window)

    def _watch_until(self, end_s: float) -> None:
        while (left := end_s - time.time()) > 0:
            self._require_running()
            time.sleep(min(left, 0.5))

    def _all_scored(self, first: int, count: int) -> bool:
        return bool(self._seen.scored_s[first : first + count].all())

    def can_take(self, count: int) -> bool:
        """Return whether the stream can take a load of `count` records without a new start.

        It cannot if records are not scored yet, or if there are no numbers left for so many.
        """
        return self._sent + count <= MAX_RECORDS and self._all_scored(0, self._sent)

    def _to_window(
        self, offer: Offer, first: int, begin_s: float, window: tuple[float, float]
    ) -> Window:
        due = offer.due_s + begin_s
        until = slice(0, int(np.searchsorted(due, window[1])))
        numbers = slice(first, first + until.stop)
        use = self._machine.use(*window)
        spike = offer.spike_s and (offer.spike_s[0] + begin_s, offer.spike_s[1] + begin_s)
        return Window(
            phase=offer.phase,
            shape=offer.shape,
            workers=self._workers,
            seed=offer.seed,
            offered_per_s=np.count_nonzero(due[until] >= window[0]) / offer.window_s,
            begin_s=window[0],
            end_s=window[1],
            due_s=due[until],
            sent_s=np.array(open_sent(self._here)[numbers]),
            scored_s=scored_at(self._seen, numbers),
            is_dead=np.array(self._seen.is_dead[numbers], bool),
            commit_s=self.facts.commit_s,
            extra_ids=self._extra(),
            lost_ids=self._lost(),
            spike_s=spike,
            capacity_per_s=offer.capacity_per_s,
            worker_times=self.worker_times(*window),
            memory_at_s=use.memory_at_s,
            memory_mb=use.memory_mb,
            neighbour_cpu_share=use.neighbour_share,
            steal_share=use.steal_share,
            replaced=self._replaced,
        )

    @property
    def _send_to(self) -> tuple[int, ...]:
        return self._subject.send_to or tuple(range(self._subject.partitions))

    def _extra(self) -> int:
        """Return the number of scores beyond one for each record of this start."""
        return int(self._seen.extra[: self._sent].sum()) + int(self._seen.totals[1])

    def _lost(self) -> int:
        """Return the number of records that the stream has lost."""
        if self._replaced == "send" or self._topics is None:
            return 0
        connection, topic = self._subject.connection, self._topics.records
        return find_lost(connection, topic, self._seen, self._sent, self._send_to)

    def worker_times(self, begin_s: float, end_s: float) -> tuple[WorkerTimes, ...]:
        """Return what the workers did within a time."""
        found = read_stage_times(str(self._here / "stages"), begin_s, end_s)
        return tuple(to_worker_times(worker) for worker in found)

    def drain(self, count: int, seconds: float) -> Drained:
        """Return how the stream works off a backlog with which it was started.

        Args:
          count: records of the backlog.
          seconds: time from the first score on, or up to MAX_LONGER times as long, until there are
            scores at MIN_MOMENTS moments: a slow model scores thousands of records at a time.

        Raises:
          ChildEnded: a process ended.
          TimeoutError: there is no score.
        """
        self._await_scores(1, _READY_S)
        began, moments = time.monotonic(), set[float]()
        while not self._all_scored(0, count):
            took = time.monotonic() - began
            moments.add(float(self._seen.scored_s[:count].max()))
            if took > seconds and (len(moments) >= MIN_MOMENTS or took > MAX_LONGER * seconds):
                break
            self._require_running()
            time.sleep(_POLL_S)
        scored = np.sort(scored_at(self._seen, slice(0, count)))
        scored = scored[~np.isnan(scored)]
        begin_s, end_s = float(scored[0]), float(scored[-1])
        return Drained(scored, begin_s, end_s, self.worker_times(begin_s, end_s))

    def measure_model(self, rate_per_s: float | None) -> ModelAlone | None:
        """Stop the stream, and measure its model alone; None without the extra `loadgen`.

        Args:
          rate_per_s: rate of the scenario Server; None to leave it out.

        Raises:
          ChildEnded: the measurement ended before its time.
        """
        if importlib.util.find_spec("mlperf_loadgen") is None:
            return None
        self.stop()
        at = self._here
        (at / "model_alone_load.json").write_text(json.dumps({"rate_per_s": rate_per_s}))
        child = Child("model_alone", at, "the model alone")
        try:
            if child.wait(_MODEL_S):
                child.require_running()
        finally:
            child.end()
        return ModelAlone(**json.loads((at / "model_alone.json").read_text()))

    def stop(self) -> None:
        """Stop the stream and delete its topics."""
        children: Sequence[Child | None] = (self._sender, self._scorer, self._collector)
        self._sender = self._scorer = self._collector = None
        try:
            for child in children:
                if child is not None:
                    child.end()
        finally:
            if self._topics is not None:
                topics, self._topics = self._topics, None
                self.kept_topics += delete_topics(self._subject.connection.admin(), topics)
