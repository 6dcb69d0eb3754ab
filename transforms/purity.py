"""The purity check of a model on the first record batches: before a row is scored or sent."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyarrow as pa

from scoreline.models.errors import ImpureModel, ModelError, describe_error
from scoreline.models.impurity import Impurity
from scoreline.models.mapping import select_column
from scoreline.models.process import ProcessLost
from scoreline.models.purity import ENOUGH_ROWS, MAX_ROWS, SampleFails, check_purity
from scoreline.models.servable import Servable
from scoreline.transforms.alive import Alive
from scoreline.transforms.features import Features, build_features
from scoreline.transforms.isolate import EveryRowFails
from scoreline.transforms.metrics import Tally
from scoreline.transforms.scoring import ScoreSpec, Serving, predict, score_batch

_LOG = logging.getLogger(__name__)
# Columns that name a row in a message.
_NAMED = 2


class Purity(NamedTuple):
    """The result of a purity check.

    Attributes:
      rows: number of rows that were checked; 0 if none could be scored.
      problem: what is wrong, and what to do; "" if each row's score is its own.
    """

    rows: int = 0
    problem: str = ""


def check_rows(batch: pa.RecordBatch, serving: Serving) -> Purity:
    """Check that the score of each of the first rows of a batch is its own.

    Rows that fail by themselves are left out: the job makes dead letters of them.

    Raises:
      ModelError: the model's process died, and the model cannot be loaded again.
    """
    servable, spec = serving.servable, dataclasses.replace(serving.spec, has_few_sizes=False)
    sample = batch.slice(0, MAX_ROWS)
    try:
        try:
            rows, found = _check(_features(sample, spec), servable, spec)
        except SampleFails:
            sample = _without_dead(sample, servable, spec)
            rows, found = _check(_features(sample, spec), servable, spec)
    except SampleFails as e:
        rows, found = sample.num_rows, e.impurity
    except EveryRowFails:
        return Purity()  # the job reports it
    except (_StepFails, ProcessLost) as e:
        _LOG.warning("The purity of the model was not checked: %s", describe_error(e))
        return Purity()
    if found is None:
        return Purity(rows)
    return Purity(rows, found.describe(_name_row(sample, found, spec)))


class _StepFails(Exception):
    """Another step than the model failed. The job meets the same error, and reports it."""


def _features(sample: pa.RecordBatch, spec: ScoreSpec) -> Features:
    try:
        return build_features(sample, spec.inputs)
    except Exception as e:
        raise _StepFails(describe_error(e)) from e


def _check(features: Features, servable: Servable, spec: ScoreSpec) -> tuple[int, Impurity | None]:
    alive = features.alive
    rows, found = check_purity(
        lambda part, count: predict(servable, dict(part), count, spec),
        features.columns,
        alive.rows,
        spec.inputs,
    )
    if found is not None:
        found = found._replace(row=int(alive.positions[found.row]))
    return rows, found


def _without_dead(sample: pa.RecordBatch, servable: Servable, spec: ScoreSpec) -> pa.RecordBatch:
    try:
        _, dead = score_batch(sample, servable, spec, Tally())
    except (EveryRowFails, ModelError):
        raise
    except Exception as e:
        raise _StepFails(describe_error(e)) from e
    return Alive(sample.num_rows, dead).take(sample)


def _name_row(sample: pa.RecordBatch, found: Impurity, spec: ScoreSpec) -> str:
    """Return the first keys of a row, as text."""
    if found.row >= sample.num_rows:
        return ""
    names = [name for name in spec.carried if not name.startswith("_")][:_NAMED]
    values = {name: select_column(sample, name)[found.row] for name in names}
    return ", ".join(f"{name}={value}" for name, value in values.items())


def join_batches(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the rows of batches of one schema, some of which have rows, as one batch."""
    table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
    return table.to_batches()[0]


class PurityGate:
    """Checks a model once on the first rows that come, and once more when there are enough.

    Thread-safe. Later batches cost one comparison.

    Attributes:
      is_open: whether the check is done.
    """

    def __init__(self, allowed: str, check: Callable[[pa.RecordBatch, Serving], Purity]) -> None:
        """Start with the reason to go on with an impure model; "" refuses one."""
        self._allowed, self._check = allowed, check
        self._lock = threading.Lock()
        self._held: list[pa.RecordBatch] = []
        self._is_first = True
        self.is_open = False

    def pass_through(self, batch: pa.RecordBatch, serving: Serving) -> None:
        """Check the rows, if they are among the first.

        Raises:
          ImpureModel: the score of a row depends on more than the row.
          ModelError: the model's process died, and the model cannot be loaded again.
        """
        with self._lock:
            if self.is_open or not batch.num_rows:
                return
            if self._held and self._held[0].schema != batch.schema:
                self._held = []
            self._held.append(batch.slice(0, MAX_ROWS))
            rows = sum(held.num_rows for held in self._held)
            if not self._is_first and rows < ENOUGH_ROWS:
                return
            found = self._check(join_batches(self._held), serving)
            self._is_first = False
            self.is_open = rows >= ENOUGH_ROWS
            if self.is_open:
                self._held = []
            if found.problem and not self._allowed:
                self.is_open = False
                raise ImpureModel(found.problem)
            if found.problem:
                self.is_open = True
                _LOG.warning("%s. Allowed: %s", found.problem, self._allowed)


_gates: dict[tuple[str, ...], PurityGate] = {}
_gates_lock = threading.Lock()


def gate_of(spec: ScoreSpec) -> PurityGate:
    """Return the gate of a model and its inputs, shared by all threads of this process."""
    key = (spec.digest, repr(spec))
    with _gates_lock:
        if key not in _gates:
            _gates[key] = PurityGate(spec.allow_impure, check_rows)
        return _gates[key]
