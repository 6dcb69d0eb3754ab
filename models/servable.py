"""Load a model of any format, warm it up, and call one of its signatures on Arrow columns.

A framework is imported when a model that needs it is loaded, never when this module is.

    servable = load_servable("build/models/flights", "serving_default")
    scores = servable.predict({"carrier": pa.array(["UA"]), …}, rows=1)
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from scoreline.models.artifact import digest_model
from scoreline.models.call_size import CallSize
from scoreline.models.errors import ModelError, first_lines
from scoreline.models.examples import Examples
from scoreline.models.runtimes import load_model
from scoreline.models.runtimes.model import Model
from scoreline.models.runtimes.tensorflow import keep_freed_memory
from scoreline.models.signature import DEFAULT_SIGNATURE, InputColumn, Signature, TensorSpec
from scoreline.models.tensors import (
    StringCodes,
    Value,
    Values,
    blank_column,
    output_type,
    to_column,
    to_values,
)

# Batches of the warm-up: an output that is no row's own has the same size for all of them.
_WARM_UP_ROWS = (1, 2, 3)
# What the warm-up tries for dimensions of free size: an image of one pixel is too small for most.
_FREE_SIZES = (1, 32, 256)
_load_lock = threading.Lock()
# Models of this process by what was asked for: those that somebody uses, and the last one.
_in_use: weakref.WeakValueDictionary[Any, LocalServable] = weakref.WeakValueDictionary()
_last: list[LocalServable] = []


class CallRows(Protocol):
    """How many rows one call of a model gets."""

    rows: int


class Servable(Protocol):
    """A model that is ready to score: in this process, or in a process of its own.

    Attributes:
      signature: the named, typed inputs and outputs of what `predict` calls.
      digest: `sha256:…` of the model's files.
      load_ms: what loading and warming up took, in milliseconds of wall time.
    """

    signature: Signature
    digest: str
    load_ms: int

    @property
    def call_size(self) -> CallRows:
        """How many rows one call gets."""

    def predict(
        self,
        features: Mapping[str, pa.Array],
        rows: int,
        outputs: Sequence[str] | None = None,
        *,
        sources: Sequence[InputColumn] = (),
        conversions: Mapping[str, str] | None = None,
    ) -> dict[str, pa.Array]:
        """Return the outputs for some rows: see `LocalServable.predict`."""

    def close(self) -> None:
        """Free what belongs to this model alone."""


class LocalServable:
    """A loaded model version, ready to score; safe to share between the threads of a process.

    Attributes:
      signature: the named, typed inputs and outputs of what `predict` calls.
      digest: `sha256:…` of the model's files.
      load_ms: what loading and warming up took, in milliseconds of wall time.
      call_size: how many rows one call gets.
    """

    def __init__(self, model: Model, digest: str, batch_rows: int | None = None) -> None:
        """Wrap a loaded model."""
        self._model = model
        self.signature = model.signature
        self.digest = digest
        self.load_ms = 0
        self.call_size = CallSize(self.signature.batch_rows or batch_rows)

    def predict(
        self,
        features: Mapping[str, pa.Array],
        rows: int,
        outputs: Sequence[str] | None = None,
        *,
        sources: Sequence[InputColumn] = (),
        conversions: Mapping[str, str] | None = None,
    ) -> dict[str, pa.Array]:
        """Return the outputs for some rows, as columns of as many rows, in the same order.

        Args:
          features: a column for each input of the signature, as `prepare` gives it, of a type and
            shape that fit; without nulls, but for optional inputs. Where the signature takes
            tf.Examples, a column of these, serialized, under the name of that input will do.
          rows: the number of rows each column holds; without rows the model is not called.
          outputs: the names of the outputs to return; all of them by default.
          sources: what was asked for about inputs: padding, truncation, ragged components.
          conversions: `binary` for string outputs whose bytes are to be kept as they are.

        Raises:
          ValueError: a column holds nulls or lists that do not fill the input's shape, or an
            output does not hold one entry for each row.
          Exception: whatever the model raised. A call that runs out of memory is made again with
            half the rows, and so are all after it; only one of a single row raises.
        """
        if not rows:
            return empty_outputs(self.signature, outputs, conversions)
        specs = [s for s in self.signature.outputs if outputs is None or s.name in outputs]
        kept = conversions or {}
        values = self._to_values(features, sources)
        names = [spec.name for spec in specs]
        results: dict[str, list[pa.Array]] = {name: [] for name in names}
        start = 0
        while start < rows:
            stop = min(start + self.call_size.rows, rows)
            stop = min(column.limit(start, stop) for column in values.values())
            began = time.perf_counter()
            try:
                inputs = {name: column.rows(start, stop) for name, column in values.items()}
                called = self._call(inputs, names, stop - start)
            except Exception as e:
                if stop - start == 1 or not self._has_no_memory(e):
                    raise
                self.call_size.shrink(stop - start)
                continue
            for spec in specs:
                column = to_column(called[spec.name], spec, stop - start, kept.get(spec.name, ""))
                results[spec.name].append(column)
            self.call_size.record(stop - start, time.perf_counter() - began)
            start = stop
        return {
            name: columns[0] if len(columns) == 1 else pa.concat_arrays(columns)
            for name, columns in results.items()
        }

    def close(self) -> None:
        """Do nothing: a loaded model is shared by all threads of the process, and stays."""

    def _to_values(
        self, features: Mapping[str, pa.Array], sources: Sequence[InputColumn]
    ) -> dict[str, Values]:
        example_input = self.signature.example_input
        if example_input in features:
            spec = TensorSpec(example_input, "string", (None,))
            return {example_input: to_values(features[example_input], InputColumn(spec, ""))}
        if example_input:
            return {example_input: Examples(features, self.signature.inputs)}
        known = {source.tensor.name: source for source in sources}
        return {
            spec.name: to_values(
                features[spec.name], known.get(spec.name, InputColumn(spec, spec.name))
            )
            for spec in self.signature.inputs
        }

    def _has_no_memory(self, error: Exception) -> bool:
        """Return whether a smaller call may do; a fixed batch cannot be smaller."""
        if self.signature.batch_rows is not None:
            return False
        return isinstance(error, MemoryError) or self._model.is_out_of_memory(error)

    def _call(
        self, inputs: dict[str, Value], names: Sequence[str], rows: int
    ) -> dict[str, np.ndarray]:
        """Call the model; a fixed batch is filled up, and what that gives is cut off."""
        fixed = self.signature.batch_rows
        if fixed is None or fixed == rows:
            return self._model.call(inputs, names)
        filled = {name: _repeat_last(value, fixed - rows) for name, value in inputs.items()}
        called = self._model.call(filled, names)
        return {
            # Anything but one entry for each row is left as it is, for to_column to refuse.
            name: value[:rows] if value.ndim and value.shape[0] == fixed else value
            for name, value in called.items()
        }

    def warm_up(
        self, outputs: Sequence[str] | None = None, ragged: Mapping[str, str] | None = None
    ) -> None:
        """Call the model on 1, 2 and 3 blank rows, so that it is known to answer.

        Loading proves little: an old model may load and have no kernel for its first call. Blank
        rows (zeros, false, empty strings) may be no valid input: a model that refuses them for
        what they hold is not refused. An output of unknown rank gets the one it is seen to have.

        Args:
          outputs: those that will be asked for; all of them by default.
          ragged: the inputs that are components of ragged tensors: `values` or `row_splits`.

        Raises:
          ModelError: a call failed for another reason, or an output is not one entry for each row.
        """
        known = [spec.name for spec in self.signature.outputs]
        names = [name for name in known if outputs is None or name in outputs]
        fixed = self.signature.batch_rows
        seen: Mapping[str, np.ndarray] = {}
        for rows in _WARM_UP_ROWS if fixed is None else (fixed,):
            called = self._call_blank(rows, names, ragged or {})
            if called is None:
                return
            seen = called
            for name, value in called.items():
                if value.shape[:1] != (rows,):
                    raise ModelError(
                        f"Signature '{self.signature.name}' gives output '{name}' in shape "
                        f"{list(value.shape)} for {rows} rows; expected its first dimension to be "
                        "the number of rows. Export the model with one entry for each row, or "
                        "leave the output out with --outputs"
                    )
        self.signature = self.signature._replace(
            outputs=tuple(_with_seen_rank(spec, seen) for spec in self.signature.outputs)
        )

    def _call_blank(
        self, rows: int, names: Sequence[str], ragged: Mapping[str, str]
    ) -> dict[str, np.ndarray] | None:
        """Return outputs for blank rows, or None when the model will not have such rows."""
        sources = [InputColumn(s, "", 0, ragged.get(s.name, "")) for s in self.signature.inputs]
        error: Exception | None = None
        is_free = any(None in spec.row_shape for spec in self.signature.inputs)
        for size in _FREE_SIZES if is_free else _FREE_SIZES[:1]:
            blank = {s.tensor.name: blank_column(s, rows, size) for s in sources}
            try:
                values = self._to_values(blank, sources)
                inputs = {name: column.rows(0, rows) for name, column in values.items()}
                return self._call(inputs, names, rows)
            except Exception as e:  # noqa: BLE001  any failure of foreign code is the model's
                error = e
        if error is None or self._model.is_about_inputs(error):
            return None
        raise ModelError(
            f"Signature '{self.signature.name}' loads, but fails on a call of {rows} rows of zeros "
            f"and empty strings: {type(error).__name__}: {first_lines(error)}"
        ) from error


def empty_outputs(
    signature: Signature, outputs: Sequence[str] | None, conversions: Mapping[str, str] | None
) -> dict[str, pa.Array]:
    """Return what `predict` gives for no rows."""
    specs = [s for s in signature.outputs if outputs is None or s.name in outputs]
    kept = conversions or {}
    return {s.name: pa.array([], output_type(s, kept.get(s.name, ""))) for s in specs}


def _repeat_last(value: Value, times: int) -> Value:
    if isinstance(value, StringCodes):
        return value._replace(
            codes=np.concatenate([value.codes, value.codes[-1:].repeat(times, 0)])
        )
    return np.concatenate([value, value[-1:].repeat(times, 0)])


def _with_seen_rank(spec: TensorSpec, called: Mapping[str, np.ndarray]) -> TensorSpec:
    if spec.shape is not None or spec.name not in called:
        return spec
    inner = (1 if size == 1 else None for size in called[spec.name].shape[1:])
    return spec._replace(shape=(None, *inner))


def load_servable(
    path: str,
    signature_name: str = DEFAULT_SIGNATURE,
    *,
    digest: str | None = None,
    batch_rows: int | None = None,
    concurrent_calls: int | None = None,
    op_libraries: Sequence[str] = (),
    outputs: Sequence[str] | None = None,
    ragged: Sequence[tuple[str, str]] = (),
) -> LocalServable:
    """Load a signature of a model and warm it up.

    Args:
      path: a SavedModel directory, a `.keras` or a `.tflite` file.
      signature_name: the signature's key.
      digest: `sha256:…` the model must have; checked before any of its code runs.
      batch_rows: rows per call; None finds a good size on the first calls.
      concurrent_calls: how many calls this process will make at once, one thread each; None
        leaves TensorFlow's own setting. The first model loaded in a process decides.
      op_libraries: shared libraries with custom ops, loaded before the model.
      outputs: those that will be asked for; all of them by default.
      ragged: pairs of an input and the component of a ragged tensor it is: values, row_splits.

    Raises:
      FileNotFoundError: there is no model.
      ModelError: another digest, no such signature, or a model that does not load or answer.
    """
    began = time.perf_counter()
    found = digest_model(path)
    if digest is not None and digest != found:
        raise ModelError(f"--model_digest: expected {digest}, got {found} for {path}. Refused")
    keep_freed_memory()
    model = load_model(path, signature_name, concurrent_calls, op_libraries)
    servable = LocalServable(model, found, batch_rows)
    servable.warm_up(outputs, dict(ragged))
    servable.load_ms = round((time.perf_counter() - began) * 1000)
    return servable


def shared_servable(path: str, signature_name: str, **options: Any) -> LocalServable:
    """Return `load_servable(…)`, loaded once for all threads of this process.

    The model that was asked for last is kept; another one as long as somebody uses it, so that a
    pipeline with two models loads each once.
    """
    key = (path, signature_name, tuple(sorted(options.items())))
    with _load_lock:
        servable = _in_use.get(key)
        if servable is None:
            servable = _in_use[key] = load_servable(path, signature_name, **options)
        _last[:] = [servable]
        return servable


def forget_shared_servable() -> None:
    """Let go of what `shared_servable` holds: it is freed when nobody else uses it."""
    with _load_lock:
        _last.clear()
