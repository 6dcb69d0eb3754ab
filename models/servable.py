"""Loads a model of any format, warms it up, and calls one of its signatures on Arrow columns.

A framework is imported when a model that needs it is loaded, not when this module is imported.

    servable = load_servable("build/models/flights", "serving_default")
    scores = servable.predict({"carrier": pa.array(["UA"]), …}, rows=1)
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from scoreline.models.artifact import digest_model
from scoreline.models.call_size import CallSize
from scoreline.models.cpu_time import noting_model_threads
from scoreline.models.errors import CallFails, ModelError, describe_error
from scoreline.models.examples import Examples
from scoreline.models.fixed_batch import find_fixed_batch, with_batch
from scoreline.models.outputs import output_type, to_column
from scoreline.models.runtimes import ModelSource, load_and_try
from scoreline.models.runtimes.model import Model, Runtime
from scoreline.models.runtimes.tensorflow import keep_freed_memory
from scoreline.models.signature import (
    DEFAULT_SIGNATURE,
    FITTING_TYPES,
    InputColumn,
    Signature,
    TensorSpec,
)
from scoreline.models.strings import Output, Value, first_rows, repeat_last
from scoreline.models.tensors import Values, blank_column, to_values

# Batches of the warm-up: an output that does not depend on rows has the same size in all of them.
_WARM_UP_ROWS = (1, 2, 3)
# Sizes of free dimensions in the warm-up: an image of one pixel is too small for most models.
_FREE_SIZES = (1, 32, 256)
_load_lock = threading.Lock()
# Models of this process by their spec: those in use, and the last one.
_in_use: weakref.WeakValueDictionary[Any, LocalServable] = weakref.WeakValueDictionary()
_last: list[LocalServable] = []


class CallRows(Protocol):
    """The number of rows per model call."""

    rows: int


class Servable(Protocol):
    """A model that is ready to score, in this process or in its own.

    Attributes:
      signature: the named, typed inputs and outputs of what `predict` calls.
      digest: `sha256:…` of the model's files.
      runtime: what calls the model.
      load_ms: what loading and warming up took, in milliseconds of wall time.
    """

    signature: Signature
    digest: str
    runtime: Runtime
    load_ms: int

    @property
    def call_size(self) -> CallRows:
        """The number of rows per call."""

    def predict(
        self,
        features: Mapping[str, pa.Array],
        rows: int,
        outputs: Sequence[str] | None = None,
        *,
        sources: Sequence[InputColumn] = (),
        conversions: Mapping[str, str] | None = None,
    ) -> dict[str, pa.Array]:
        """Return the outputs of rows: see `LocalServable.predict`."""

    def close(self) -> None:
        """Free the resources of this model alone."""


class LocalServable:
    """A loaded model version, ready to score. Thread-safe.

    Attributes:
      signature: the named, typed inputs and outputs of what `predict` calls.
      digest: `sha256:…` of the model's files.
      runtime: what calls the model.
      load_ms: what loading and warming up took, in milliseconds of wall time.
      call_size: the number of rows per call.
    """

    def __init__(self, model: Model, digest: str, batch_rows: int | None = None) -> None:
        """Wrap a loaded model."""
        self._model = model
        self.signature = model.signature
        self.digest = digest
        self.runtime = model.runtime
        self.load_ms = 0
        self._rejection = ""  # why the last blank rows were rejected
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
        """Return the outputs of rows, as columns with the same rows in the same order.

        Args:
          features: one column per input of the signature, as returned by `prepare`, with a fitting
            type and shape, and without nulls except for optional inputs. If the signature takes
            tf.Examples, one column of serialized tf.Examples under that input's name is enough.
          rows: the number of rows in each column; without rows the model is not called.
          outputs: the names of the outputs to return; by default all.
          sources: options of inputs: padding, truncation, ragged components.
          conversions: `binary` for string outputs whose bytes are kept unchanged, `raw` for the
            stored numbers of quantized outputs.

        Raises:
          ValueError: a column has nulls or lists that do not fill the input's shape, or an output
            does not have one entry per row.
          Exception: the model's exception. A call that runs out of memory is repeated with half the
            rows, which is the size of all later calls too. Only a call of one row raises.
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
        """Do nothing: all threads of the process share a loaded model, and it stays."""

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
        """Return whether a smaller call may succeed; a fixed batch cannot be smaller."""
        if self.signature.batch_rows is not None:
            return False
        return isinstance(error, MemoryError) or self._model.is_out_of_memory(error)

    def _call(self, inputs: dict[str, Value], names: Sequence[str], rows: int) -> dict[str, Output]:
        """Call the model; fill up a fixed batch, and cut off the outputs of the padding."""
        fixed = self.signature.batch_rows
        if fixed is None or fixed == rows:
            return self._model.call(inputs, names)
        filled = {name: repeat_last(value, fixed - rows) for name, value in inputs.items()}
        called = self._model.call(filled, names)
        return {
            # An output without one entry per row is not changed, so that to_column refuses it.
            name: first_rows(value, rows) if value.ndim and value.shape[0] == fixed else value
            for name, value in called.items()
        }

    def warm_up(
        self, outputs: Sequence[str] | None = None, ragged: Mapping[str, str] | None = None
    ) -> None:
        """Call the model on 1, 2 and 3 blank rows as a check.

        Loading proves little: an old model may load but lack a kernel for its first call. Blank
        rows (zeros, false, empty strings) may be invalid input: then ones are tried. A model that
        rejects the values of both is accepted. An output of unknown rank gets the observed rank. If
        the graph takes only some number of rows, though the signature says any, calls are filled up
        to that number.

        Args:
          outputs: the outputs that will be used; by default all.
          ragged: the inputs that are components of ragged tensors: `values` or `row_splits`.

        Raises:
          CallFails: a call failed for another reason.
          ModelError: an output lacks one entry per row.
        """
        # Others are refused when the signature is fitted to columns.
        usable = [spec.name for spec in self.signature.outputs if spec.dtype in FITTING_TYPES]
        names = [name for name in usable if outputs is None or name in outputs]
        fixed = self.signature.batch_rows
        error: ModelError | None = None
        try:
            seen = self._call_sizes(fixed, names, ragged or {})
        except ModelError as e:
            error, seen = e, None
        if seen is None and fixed is None:
            seen = self._fix_batch(names, ragged or {})
        if seen is None and error is not None:
            raise error
        self.signature = self.signature._replace(
            outputs=tuple(_with_seen_rank(spec, seen or {}) for spec in self.signature.outputs)
        )

    def _call_sizes(
        self, fixed: int | None, names: Sequence[str], ragged: Mapping[str, str]
    ) -> Mapping[str, Output] | None:
        """Return the outputs of the last warm-up call; None if blank rows are rejected."""
        seen: Mapping[str, Output] = {}
        for rows in _WARM_UP_ROWS if fixed is None else (fixed,):
            called = self._call_blank(rows, names, ragged)
            if called is None:
                return None
            seen = called
            for name, value in called.items():
                if value.shape[:1] != (rows,):
                    raise ModelError(
                        f"Signature '{self.signature.name}' gives output '{name}' in shape "
                        f"{list(value.shape)} for {rows} rows; expected its first dimension to be "
                        "the number of rows. Export the model with one entry per row, or leave out "
                        "the output with --outputs"
                    )
        return seen

    def _fix_batch(
        self, names: Sequence[str], ragged: Mapping[str, str]
    ) -> Mapping[str, Output] | None:
        """Find a number of rows that is fixed in the graph, and fill calls up to it from now on."""
        found = find_fixed_batch(
            self.signature,
            names,
            lambda rows: self._call_blank(rows, names, ragged),
            lambda: self._rejection,
        )
        if found is None:
            return None
        rows, outputs = found
        self.signature = with_batch(self.signature, rows)
        self.call_size = CallSize(rows)
        return outputs

    def _call_blank(
        self, rows: int, names: Sequence[str], ragged: Mapping[str, str]
    ) -> dict[str, Output] | None:
        """Return outputs for blank rows; None if the model rejects their values."""
        sources = [InputColumn(s, "", 0, ragged.get(s.name, "")) for s in self.signature.inputs]
        error: Exception | None = None
        is_free = any(None in spec.row_shape for spec in self.signature.inputs)
        sizes = _FREE_SIZES if is_free else _FREE_SIZES[:1]
        for ones in (False, True):
            for size in sizes:
                blank = {s.tensor.name: blank_column(s, rows, size, ones=ones) for s in sources}
                try:
                    values = self._to_values(blank, sources)
                    inputs = {name: column.rows(0, rows) for name, column in values.items()}
                    return self._call(inputs, names, rows)
                except Exception as e:  # noqa: BLE001  any failure of foreign code is the model's
                    error = e
            if error is None or not self._model.is_about_inputs(error):
                break
        if error is None or self._model.is_about_inputs(error):
            self._rejection = str(error)
            return None
        raise CallFails(
            f"Signature '{self.signature.name}' loads, but fails on a call of {rows} rows of zeros "
            f"and empty strings: {describe_error(error)}"
        ) from error


def empty_outputs(
    signature: Signature, outputs: Sequence[str] | None, conversions: Mapping[str, str] | None
) -> dict[str, pa.Array]:
    """Return the result of `predict` without rows."""
    specs = [s for s in signature.outputs if outputs is None or s.name in outputs]
    kept = conversions or {}
    return {s.name: pa.array([], output_type(s, kept.get(s.name, ""))) for s in specs}


def _with_seen_rank(spec: TensorSpec, called: Mapping[str, Output]) -> TensorSpec:
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
    tags: Sequence[str] = (),
) -> LocalServable:
    """Load a signature of a model and warm it up.

    Args:
      path: a SavedModel directory, a `.keras` or a `.tflite` file, or the folder of a variant.
      signature_name: the signature's key.
      digest: `sha256:…` that the model must have; checked before any of its code runs.
      batch_rows: rows per call; None tunes the size on the first calls.
      concurrent_calls: number of parallel calls in this process, one thread each; None
        leaves TensorFlow's own setting. The first model loaded in a process decides.
      op_libraries: shared libraries with custom ops, loaded before the model.
      outputs: the outputs that will be used; by default all.
      ragged: pairs of an input and the component of a ragged tensor it is: values, row_splits.
      tags: of a SavedModel's MetaGraph; by default the only one, or the one for serving.

    Raises:
      FileNotFoundError: there is no model.
      ModelError: another digest, no such signature, or a model that fails to load or run.
    """
    began = time.perf_counter()
    found = digest_model(path)
    if digest is not None and digest != found:
        raise ModelError(f"--model_digest: expected {digest}, got {found} for {path}. Refused")
    keep_freed_memory()

    def warm_up(model: Model) -> LocalServable:
        servable = LocalServable(model, found, batch_rows)
        servable.warm_up(outputs, dict(ragged))
        return servable

    source = ModelSource(path, signature_name, concurrent_calls, tuple(op_libraries), tuple(tags))
    with noting_model_threads():
        servable = load_and_try(source, warm_up)
    servable.load_ms = round((time.perf_counter() - began) * 1000)
    return servable


def shared_servable(path: str, signature_name: str, **options: Any) -> LocalServable:
    """Return `load_servable(…)`, loaded once for all threads of this process.

    The last requested model is kept. Other models are kept while they are in use, so a pipeline
    with two models loads each once.
    """
    key = (path, signature_name, tuple(sorted(options.items())))
    with _load_lock:
        servable = _in_use.get(key)
        if servable is None:
            servable = _in_use[key] = load_servable(path, signature_name, **options)
        _last[:] = [servable]
        return servable


def forget_shared_servable() -> None:
    """Release the model of `shared_servable`; it is freed if it has no other user."""
    with _load_lock:
        _last.clear()
