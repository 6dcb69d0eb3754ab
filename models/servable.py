"""Load a SavedModel, warm it up, and call one of its signatures on Arrow columns.

TensorFlow is imported when a model is loaded, never when this module is.

    servable = load_servable("build/models/flights", "serving_default")
    scores = servable.predict({"carrier": pa.array(["UA"]), …}, rows=1)
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from models.call_size import CallSize
from models.signature import Signature, TensorSpec
from models.tensorflow_runtime import import_tensorflow, keep_freed_memory, limit_threads
from models.tensors import output_type, to_column, to_tensor, to_values, zeros
from models.versions import digest_model

_WARM_UP_ROWS = 2
_load_lock = threading.Lock()


class ModelError(ValueError):
    """A model that cannot be loaded or called; the message says why and what to do."""


class Servable:
    """A loaded model version, ready to score; safe to share between the threads of a process.

    Attributes:
      signature: the named, typed inputs and outputs of what `predict` calls.
      digest: `sha256:…` of the model's files.
      load_ms: what loading and warming up took, in milliseconds of wall time.
      call_size: how many rows one call gets.
    """

    def __init__(
        self, function: Any, signature: Signature, digest: str, batch_rows: int | None = None
    ) -> None:
        """Wrap a concrete TensorFlow function that takes and gives named tensors."""
        self._function = function
        self.signature = signature
        self.digest = digest
        self.load_ms = 0
        self.call_size = CallSize(batch_rows)

    def predict(
        self, features: Mapping[str, pa.Array], rows: int, outputs: Sequence[str] | None = None
    ) -> dict[str, pa.Array]:
        """Return the outputs for some rows, as columns of as many rows, in the same order.

        Args:
          features: a column without nulls for each input of the signature, of a type that fits.
          rows: the number of rows each column holds; without rows the model is not called.
          outputs: the names of the outputs to return; all of them by default.

        Raises:
          ValueError: a column holds nulls, or an output does not hold one entry for each row.
          tf.errors.OpError: the model itself failed.
        """
        specs = [s for s in self.signature.outputs if outputs is None or s.name in outputs]
        if not rows:
            return {spec.name: pa.nulls(0, output_type(spec)) for spec in specs}
        values = [(spec, to_values(features[spec.name], spec)) for spec in self.signature.inputs]
        results: dict[str, list[np.ndarray]] = {spec.name: [] for spec in specs}
        start = 0
        while start < rows:
            stop = min(start + self.call_size.rows, rows)
            began = time.perf_counter()
            tensors = {spec.name: to_tensor(value, spec, start, stop) for spec, value in values}
            called = self._function(**tensors)
            for name, gathered in results.items():
                gathered.append(called[name].numpy())
            self.call_size.record(stop - start, time.perf_counter() - began)
            start = stop
        return {spec.name: to_column(results[spec.name], spec, rows) for spec in specs}

    def warm_up(self) -> None:
        """Call the model once on rows of zeros and empty strings, so that it is known to answer.

        Loading proves little: an old model may load and have no kernel for its first call.

        Raises:
          ModelError: the call failed, or gave outputs that do not match the signature.
        """
        blank = {spec.name: zeros(spec, _WARM_UP_ROWS) for spec in self.signature.inputs}
        try:
            self.predict(blank, _WARM_UP_ROWS)
        except Exception as e:  # any failure of foreign code is the model's
            raise ModelError(
                f"Signature '{self.signature.name}' loads, but fails on a call of {_WARM_UP_ROWS} "
                f"rows of zeros and empty strings: {type(e).__name__}: {first_lines(e)}"
            ) from e


def load_servable(
    path: str,
    signature_name: str = "serving_default",
    *,
    digest: str | None = None,
    batch_rows: int | None = None,
    concurrent_calls: int | None = None,
) -> Servable:
    """Load a signature of a SavedModel and warm it up.

    Args:
      path: the SavedModel directory.
      signature_name: the signature's key.
      digest: `sha256:…` the model must have; checked before any of its code runs.
      batch_rows: rows per call; None finds a good size on the first calls.
      concurrent_calls: how many calls this process will make at once, one thread each; None
        leaves TensorFlow's own setting. The first model loaded in a process decides.

    Raises:
      FileNotFoundError: there is no SavedModel.
      ModelError: another digest, no such signature, or a model that does not load or answer.
    """
    began = time.perf_counter()
    found = digest_model(path)
    if digest is not None and digest != found:
        raise ModelError(f"--model_digest: expected {digest}, got {found} for {path}. Refused")
    keep_freed_memory()
    tf = import_tensorflow()
    if concurrent_calls is not None:
        limit_threads(concurrent_calls)
    try:
        loaded = tf.saved_model.load(path)
    except Exception as e:  # any failure of foreign code is the model's
        raise ModelError(f"Model {path} does not load: {type(e).__name__}: {first_lines(e)}") from e
    known = sorted(name for name in loaded.signatures if not name.startswith("__"))
    if signature_name not in known:
        raise ModelError(
            f"--signature: model {path} has no signature '{signature_name}'; "
            f"it has {', '.join(known) or 'none: export it with signatures='}"
        )
    function = loaded.signatures[signature_name]
    # The function refers to the model's variables weakly; whoever holds it must hold the model.
    function._scoreline_model = loaded
    servable = Servable(function, _read_signature(function, signature_name), found, batch_rows)
    servable.warm_up()
    servable.load_ms = round((time.perf_counter() - began) * 1000)
    return servable


@functools.lru_cache(maxsize=1)
def _load_once(path: str, signature_name: str, options: tuple[tuple[str, Any], ...]) -> Servable:
    return load_servable(path, signature_name, **dict(options))


def shared_servable(path: str, signature_name: str, **options: Any) -> Servable:
    """Return `load_servable(…)`, loaded once for all threads of this process."""
    with _load_lock:
        return _load_once(path, signature_name, tuple(sorted(options.items())))


def _read_signature(function: Any, name: str) -> Signature:
    _, inputs = function.structured_input_signature
    return Signature(name, _read_specs(inputs), _read_specs(function.structured_outputs))


def _read_specs(specs: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name,
            spec.dtype.name,
            None if spec.shape.rank is None else tuple(spec.shape.as_list()),
        )
        for name, spec in sorted(specs.items())
    )


def first_lines(error: BaseException, limit: int = 500) -> str:
    """Return the start of an error's message: TensorFlow's end in a graph dump."""
    text = str(error).strip()
    return text if len(text) <= limit else text[:limit] + " …"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the signature of a model as JSON: `python -m models.servable PATH SIGNATURE`.

    A launcher that must not import TensorFlow runs this in a process of its own. A model that is
    refused prints its reason as one line on standard error, and exits 2.
    """
    path, signature_name = sys.argv[1:3] if argv is None else argv
    try:
        print(load_servable(path, signature_name).signature.to_json())  # noqa: T201
    except (FileNotFoundError, ModelError) as e:
        sys.stderr.write(f"{e}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
