"""Watch a folder of model versions while scoring, and swap to a new one that holds.

A thread looks at the folder, loads a new version beside the one that serves, has it warmed up and
compared on rows that are being scored (see `transforms/shadow.py`); meanwhile scoring goes on. What
serves is one reference: whoever scores a record batch takes it once, so that no batch is scored by
two models, and the digest in its rows is that of the model that scored it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.lake.elements import DeadRows
from scoreline.models.artifact import digest_model, model_format_of
from scoreline.models.compare import find_differences
from scoreline.models.errors import ModelError, describe_error
from scoreline.models.servable import forget_shared_servable
from scoreline.models.signature import Signature
from scoreline.models.versions import (
    Fingerprint,
    Version,
    choose_version,
    fingerprint_of,
    is_marked_refused,
    mark_refused,
    remove_mark,
    version_at,
)
from scoreline.transforms import metrics
from scoreline.transforms.scoring import Serving
from scoreline.transforms.swap.judge import Sample, compare
from scoreline.transforms.worker.heap import settle_heap

if TYPE_CHECKING:
    from scoreline.transforms.scoring import ScoreSpec

_LOG = logging.getLogger(__name__)
_STOP_SECONDS = 10.0


class SwapSpec(NamedTuple):
    """What is watched, and what a new version must hold.

    Attributes:
      folder: of the versions, as a worker sees it.
      poll_s: seconds between two looks at it.
      max_disagreement: see `Comparison.disagreement`.
      max_latency_ratio: see `Comparison.latency_ratio`.
      signature: what the job was planned with.
    """

    folder: str
    poll_s: float
    max_disagreement: float
    max_latency_ratio: float
    signature: Signature


class ModelWatcher:
    """What scores in this process, kept up to date with a folder of versions.

    Attributes:
      users: how many steps score with it.
    """

    def __init__(
        self, spec: ScoreSpec, swap: SwapSpec, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Load what is to serve first: a named version, the last one here, or the job's own.

        Raises:
          ModelError: that does not load or answer.
          FileNotFoundError: there is no model.
        """
        self._spec, self._swap = spec, swap
        self.users = 0
        self._news: deque[tuple[metrics.Metric, int]] = deque()
        self._said: set[str] = set()
        self._digests: dict[str, tuple[Fingerprint, str]] = {}
        self._refused: set[str] = set()
        # What the folder looked like, and what of that there is nothing more to do about.
        self._seen: object = None
        self._decided: object = None
        self._candidate: Serving | None = None
        self._sample = Sample(clock)
        self._retired: Serving | None = None
        self._is_garbage = False
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._wake = threading.Event()
        self._looking = threading.Lock()
        self._version, self._serving = self._load_first()

    def take(self) -> Serving:
        """Return what scores the next batch; what the last one was scored with may end."""
        retired, self._retired = self._retired, None
        if retired is not None:
            retired.servable.close()
        return self._serving

    def offer(self, batch: pa.RecordBatch, dead: Sequence[DeadRows]) -> None:
        """Tell which rows were scored: while a candidate waits, some are kept to compare it on."""
        if not self._sample.is_wanted:
            return
        keep = np.ones(batch.num_rows, bool)
        for rows in dead:
            keep[list(rows.rows)] = False
        if self._sample.add(batch.filter(pa.array(keep)) if dead else batch):
            self._wake.set()

    def report(self, timers: metrics.Tally) -> None:
        """Count what has happened since the last call."""
        with contextlib.suppress(IndexError):  # another thread took the rest
            while self._news:
                metric, value = self._news.popleft()
                if metric.kind == "counter":
                    timers.count(metric, value)
                else:
                    timers.observe(metric, value)

    def start(self) -> None:
        """Have a thread look at the folder, now and from then on."""
        if self._thread is None:
            self._ended = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._ended,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; what serves stays."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ended.set()
            self._wake.set()
            thread.join(_STOP_SECONDS)  # it may be loading a model, and then ends after that

    def close(self) -> None:
        """End the thread and what serves."""
        self.stop()
        self.take().servable.close()

    def _run(self, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                with self._looking:  # a thread that was ended may still be loading a model
                    self.look()
            except Exception as e:  # noqa: BLE001  a look that fails must not end those to come
                self._say_once(f"Looking for models failed: {describe_error(e)}")
            self._wake.wait(self._swap.poll_s)
            self._wake.clear()
        with self._looking:
            self._drop_candidate()

    def look(self) -> None:
        """Look at the folder once, and do the next step about what is new there.

        A version is touched only when two looks have found its files the same: it may still be
        copied. One that was refused is looked at again when its files change.
        """
        if self._is_garbage:
            settle_heap()  # a loaded SavedModel refers to itself
            self._is_garbage = False
        try:
            chosen = choose_version(self._swap.folder, self._is_refused)
            seen: tuple[object, ...] = (chosen, fingerprint_of(chosen.path))
        except OSError as e:
            chosen, seen = None, (str(e),)
        if seen != self._seen:
            self._seen = seen
            self._drop_candidate()
        elif seen != self._decided:
            if chosen is None:
                self._decided = seen
                self._say_once(f"{seen[0]}. {self._version.name} goes on")
            else:
                self._decided = seen if self._consider(chosen) else None

    def _consider(self, chosen: Version) -> bool:
        """Do the next step about a version whose files have settled; return whether it is done."""
        if not chosen.is_named and chosen.number < self._version.number:
            return True  # what serves was removed: going back is to be asked for
        if self._candidate is None:
            digest = self._digest_of(chosen.path)
            if digest == self._serving.spec.digest:
                return True
            before = fingerprint_of(chosen.path)
            try:
                candidate = self._load(chosen, digest)
            except Exception as e:  # noqa: BLE001  whatever a candidate does, the job goes on
                if self._has_changed(chosen.path, before):
                    return False
                self._refuse(chosen, digest, describe_error(e))
                return True
            if self._has_changed(chosen.path, before):
                candidate.servable.close()
                return False
            if chosen.is_named:
                self._take_over(chosen, candidate, "as SERVING says")
                return True
            self._candidate = candidate
            self._sample.clear(wanted=True)
        return self._try_candidate(chosen, self._candidate)

    def _try_candidate(self, chosen: Version, candidate: Serving) -> bool:
        sample = self._sample.take()
        if sample is None:
            return False
        try:
            found = compare(sample, self._serving, candidate)
            problems = found.find_problems(
                self._swap.max_disagreement, self._swap.max_latency_ratio
            )
        except Exception as e:  # noqa: BLE001  whatever a candidate does, the job goes on
            problems = [f"it cannot be compared on {sample.num_rows:,} rows: {describe_error(e)}"]
        if problems:
            self._drop_candidate()
            self._refuse(chosen, candidate.spec.digest, "; ".join(problems))
            return True
        self._candidate = None
        self._sample.clear()
        self._take_over(
            chosen,
            candidate,
            f"disagreement {found.disagreement:.3g}, {found.latency_ratio:.2f} times the time, "
            f"on {found.rows:,} rows",
        )
        return True

    def _take_over(self, chosen: Version, candidate: Serving, why: str) -> None:
        before = self._version.name
        self._retired, self._serving, self._version = self._serving, candidate, chosen
        _last[self._spec, self._swap] = (chosen, candidate.spec.digest)
        forget_shared_servable()
        self._is_garbage = True
        self._news.append((metrics.MODEL_SWAPS, 1))
        self._news.append((metrics.MODEL_LOAD_MS, candidate.servable.load_ms))
        _LOG.warning(
            "Model %s took over from %s (%s): %s", chosen.name, before, candidate.spec.digest, why
        )
        if chosen.is_named:
            try:
                remove_mark(chosen)
            except OSError as e:
                self._say_once(f"{chosen.path} stays marked as refused: {e}")

    def _refuse(self, chosen: Version, digest: str, why: str) -> None:
        self._is_garbage = True
        self._news.append((metrics.CANDIDATES_REFUSED, 1))
        again = "its files or SERVING change"
        if not chosen.is_named:
            try:
                mark_refused(chosen, digest, why)
                again = f"{chosen.name}.refused is removed or its files change"
            except OSError as e:
                self._refused.add(digest)
                again = f"its files change, or by a job that starts anew: not marked, {e}"
        _LOG.warning(
            "Model %s is refused (%s), %s goes on: %s. Tried again when %s",
            chosen.name,
            digest,
            self._version.name,
            why,
            again,
        )

    def _drop_candidate(self) -> None:
        candidate, self._candidate = self._candidate, None
        self._sample.clear()
        if candidate is not None:
            candidate.servable.close()
            self._is_garbage = True

    def _load_first(self) -> tuple[Version, Serving]:
        first, digest = _last.get((self._spec, self._swap)) or (
            version_at(self._spec.model.path),
            self._spec.digest,
        )
        try:
            chosen = choose_version(self._swap.folder)
            if chosen.is_named or model_format_of(first.path) is None:
                chosen_digest = digest_model(chosen.path)
                if chosen_digest != digest:
                    return chosen, self._load(chosen, chosen_digest)
        except (OSError, ModelError) as e:
            self._say_once(f"{e}. {first.name} is scored with")
        if digest == self._spec.digest:
            return first, Serving(self._spec.model.load(), self._spec)
        return first, self._load(first, digest)

    def _load(self, version: Version, digest: str) -> Serving:
        """Return a version that is ready to score as the job was planned."""
        model = dataclasses.replace(self._spec.model, path=version.path, digest=digest)
        spec = dataclasses.replace(self._spec, model=model)
        servable = model.load(shared=False)
        differences = find_differences(
            self._swap.signature,
            servable.signature,
            [(name, conversion) for name, _, conversion in spec.outputs],
            all_outputs=model.outputs is None,
        )
        if differences:
            servable.close()
            raise ModelError(
                f"signature '{model.signature}' is another: {'; '.join(differences)}. Start "
                "the job anew for such a model"
            )
        tensors = {tensor.name: tensor for tensor in servable.signature.inputs}
        inputs = tuple(
            source._replace(tensor=tensors.get(source.tensor.name, source.tensor))
            for source in spec.inputs
        )
        return Serving(servable, dataclasses.replace(spec, inputs=inputs))

    def _is_refused(self, version: Version) -> bool:
        if version.number == self._version.number:
            return False
        if is_marked_refused(version, self._digest_of):
            return True
        return bool(self._refused) and self._digest_of(version.path) in self._refused

    def _digest_of(self, path: str) -> str:
        """Return a model's digest, worked out again only when its files have changed."""
        now = fingerprint_of(path)
        known = self._digests.get(path)
        if known is None or known[0] != now:
            known = self._digests[path] = (now, digest_model(path))
        return known[1]

    def _has_changed(self, path: str, before: Fingerprint) -> bool:
        try:
            return fingerprint_of(path) != before
        except OSError:
            return True

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            _LOG.warning("%s", text)


# What a process went over to last: steps that are set up later begin with it.
_last: dict[tuple[ScoreSpec, SwapSpec], tuple[Version, str]] = {}
_shared: dict[tuple[ScoreSpec, SwapSpec], ModelWatcher] = {}
_shared_lock = threading.Lock()


def acquire_watcher(spec: ScoreSpec, swap: SwapSpec) -> ModelWatcher:
    """Return a watcher that runs: one for all threads of this process.

    Where models run in processes of their own, each caller gets one of its own, as of those.
    """
    if spec.model.batch_timeout_s is not None:
        watcher = ModelWatcher(spec, swap)
        watcher.start()
        return watcher
    with _shared_lock:
        if (spec, swap) not in _shared:
            for other in [s for s, w in _shared.items() if not w.users]:
                del _shared[other]
            _shared[spec, swap] = ModelWatcher(spec, swap)
        watcher = _shared[spec, swap]
        watcher.users += 1
        watcher.start()
        return watcher


def release_watcher(spec: ScoreSpec, watcher: ModelWatcher) -> None:
    """End the watching when nobody else uses it; a shared model stays loaded."""
    if spec.model.batch_timeout_s is not None:
        watcher.close()
        return
    with _shared_lock:
        watcher.users -= 1
        if not watcher.users:
            watcher.stop()
