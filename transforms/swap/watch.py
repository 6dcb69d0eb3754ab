"""Watches a folder of model versions while scoring, and swaps to a new version if it passes.

A thread polls the folder. It loads a new version beside the serving one, warms it up, and compares
both on rows that are being scored (see `judge.py`). Scoring continues meanwhile. The serving model
is a single reference. Each record batch takes it once, so no batch is scored by two models, and its
rows have the digest of the model that scored them.
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

import pyarrow as pa

from scoreline.lake.elements import DeadRows
from scoreline.models.artifact import digest_model, model_format_of
from scoreline.models.compare.signatures import find_differences
from scoreline.models.errors import ModelError, describe_error
from scoreline.models.servable import forget_shared_servable
from scoreline.models.signature import InputColumn, Signature, TensorSpec
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
from scoreline.transforms.alive import Alive
from scoreline.transforms.purity import check_rows
from scoreline.transforms.scoring import Serving
from scoreline.transforms.swap.judge import Sample, compare
from scoreline.transforms.worker.heap import settle_heap

if TYPE_CHECKING:
    from scoreline.transforms.scoring import ScoreSpec

_LOG = logging.getLogger(__name__)
_STOP_SECONDS = 10.0


class SwapSpec(NamedTuple):
    """The folder to watch, and the limits for new versions.

    Attributes:
      folder: the folder of versions, as a worker sees it.
      poll_s: seconds between two looks at the folder.
      max_disagreement: see `Comparison.disagreement`.
      max_latency_ratio: see `Comparison.latency_ratio`.
      signature: the signature that the job was planned with.
    """

    folder: str
    poll_s: float
    max_disagreement: float
    max_latency_ratio: float
    signature: Signature


class ModelWatcher:
    """The serving model of this process, updated from a folder of versions.

    Attributes:
      users: number of steps that score with it.
    """

    def __init__(
        self, spec: ScoreSpec, swap: SwapSpec, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Load the first model: the version in SERVING, the last one here, or the job's own.

        Raises:
          ModelError: the model does not load or fails in warm-up.
          FileNotFoundError: there is no model.
        """
        self._spec, self._swap = spec, swap
        self.users = 0
        self._news: deque[tuple[metrics.Metric, int]] = deque()
        self._said: set[str] = set()
        self._digests: dict[str, tuple[Fingerprint, str]] = {}
        self._refused: set[str] = set()
        # Last observed state of the folder, and the part already handled.
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
        """Return the model for the next batch; close the one that was swapped out."""
        retired, self._retired = self._retired, None
        if retired is not None:
            retired.servable.close()
        return self._serving

    def offer(self, batch: pa.RecordBatch, dead: Sequence[DeadRows]) -> None:
        """Offer scored rows; some are kept for the comparison if a candidate waits."""
        if not self._sample.is_wanted:
            return
        if self._sample.add(Alive(batch.num_rows, dead).take(batch)):
            self._wake.set()

    def report(self, timers: metrics.Tally) -> None:
        """Add the metrics since the last call."""
        with contextlib.suppress(IndexError):  # another thread took the last ones
            while self._news:
                metric, value = self._news.popleft()
                if metric.kind == "counter":
                    timers.count(metric, value)
                else:
                    timers.observe(metric, value)

    def start(self) -> None:
        """Start the thread that polls the folder."""
        if self._thread is None:
            self._ended = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._ended,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread; the serving model stays."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ended.set()
            self._wake.set()
            thread.join(_STOP_SECONDS)  # if it is loading a model, it ends after that

    def close(self) -> None:
        """Stop the thread and close the serving model."""
        self.stop()
        self.take().servable.close()

    def _run(self, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                with self._looking:  # an earlier thread may still be loading a model
                    self.look()
            except Exception as e:  # noqa: BLE001  a failed look must not end the thread
                self._say_once(f"Cannot look for new models: {describe_error(e)}")
            self._wake.wait(self._swap.poll_s)
            self._wake.clear()
        with self._looking:
            self._drop_candidate()

    def look(self) -> None:
        """Look at the folder once, and take the next step with a new version.

        A version is loaded only after two looks have found the same files, because it may still be
        copied. A refused version is tried again if its files change.
        """
        if self._is_garbage:
            settle_heap()  # a loaded SavedModel is a reference cycle
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
                self._say_once(f"{seen[0]}. {self._version.name} continues")
            else:
                self._decided = seen if self._consider(chosen) else None

    def _consider(self, chosen: Version) -> bool:
        """Take the next step with a version whose files are stable; return whether it is done."""
        if not chosen.is_named and chosen.number < self._version.number:
            return True  # the serving version was removed: a rollback must be requested
        if self._candidate is None:
            digest = self._digest_of(chosen.path)
            if digest == self._serving.spec.digest:
                return True
            before = fingerprint_of(chosen.path)
            try:
                candidate = self._load(chosen, digest)
            except Exception as e:  # noqa: BLE001  a candidate must not fail the job
                if self._has_changed(chosen.path, before):
                    return False
                self._refuse(chosen, digest, describe_error(e))
                return True
            if self._has_changed(chosen.path, before):
                candidate.servable.close()
                return False
            if chosen.is_named:
                self._take_over(chosen, candidate, "named in SERVING")
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
        except Exception as e:  # noqa: BLE001  a candidate must not fail the job
            problems = [f"the comparison on {sample.num_rows:,} rows failed: {describe_error(e)}"]
        if not problems:
            problems = self._find_impurity(sample, candidate)
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

    def _find_impurity(self, sample: pa.RecordBatch, candidate: Serving) -> list[str]:
        """Return why the scores of the sample are not each row's own; log it if it is allowed."""
        if not candidate.spec.checks_purity:
            return []
        try:
            problem = check_rows(sample, candidate).problem
        except Exception as e:  # noqa: BLE001  a candidate must not fail the job
            return [f"the purity check on {sample.num_rows:,} rows failed: {describe_error(e)}"]
        if problem and candidate.spec.allow_impure:
            _LOG.warning("%s. Allowed: %s", problem, candidate.spec.allow_impure)
            return []
        return [problem] if problem else []

    def _take_over(self, chosen: Version, candidate: Serving, why: str) -> None:
        before = self._version.name
        self._retired, self._serving, self._version = self._serving, candidate, chosen
        _last[self._spec, self._swap] = (chosen, candidate.spec.digest)
        forget_shared_servable()
        self._is_garbage = True
        self._news.append((metrics.MODEL_SWAPS, 1))
        self._news.append((metrics.MODEL_LOAD_MS, candidate.servable.load_ms))
        has_fallen_back = bool(candidate.servable.runtime.fallback)
        self._news.append((metrics.MODELS_FALLEN_BACK, has_fallen_back))
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
                again = f"its files change, or the job restarts (the mark failed: {e})"
        _LOG.warning(
            "Model %s is refused (%s), %s continues: %s. It is tried again if %s",
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
            self._say_once(f"{e}. Scoring with {first.name}")
        if digest == self._spec.digest:
            return first, Serving(self._spec.model.load(), self._spec)
        return first, self._load(first, digest)

    def _load(self, version: Version, digest: str) -> Serving:
        """Load a version that fits the plan of the job."""
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
                f"expected signature '{model.signature}' of the plan, got another: "
                f"{'; '.join(differences)}. Restart the job for such a model"
            )
        tensors = {tensor.name: tensor for tensor in servable.signature.inputs}
        inputs = tuple(
            _keep_sizes(source, tensors.get(source.tensor.name, source.tensor))
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
        """Return a model's digest, computed again only if its files have changed."""
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


def _keep_sizes(source: InputColumn, tensor: TensorSpec) -> InputColumn:
    """Return a source that feeds the new model's input with rows of the planned sizes.

    A size that the new model leaves free stays the planned one: lists are padded to it.
    """
    if source.tensor.shape and tensor.shape and len(source.tensor.shape) == len(tensor.shape):
        sizes = zip(tensor.row_shape, source.tensor.row_shape, strict=True)
        kept = (old if new is None else new for new, old in sizes)
        tensor = tensor._replace(shape=(tensor.shape[0], *kept))
    return source._replace(tensor=tensor)


# The last version in this process; steps that are set up later start with it.
_last: dict[tuple[ScoreSpec, SwapSpec], tuple[Version, str]] = {}
