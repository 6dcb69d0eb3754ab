"""`.tflite` files, through LiteRT: TensorFlow is never imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scoreline.models.errors import ModelError, first_lines
from scoreline.models.runtimes import interpreters
from scoreline.models.runtimes.interpreters import Interpreters
from scoreline.models.runtimes.litert_file import LiteRTFacts, read_litert_file
from scoreline.models.runtimes.litert_runner import Runner, make_runner
from scoreline.models.runtimes.model import Runtime
from scoreline.models.runtimes.noise import without_noise
from scoreline.models.signature import DEFAULT_SIGNATURE, Quantization, Signature, TensorSpec
from scoreline.models.strings import Output, Value, to_plain

_NOISE = (b"INFO: Created TensorFlow Lite XNNPACK delegate",)


class _Tensor(NamedTuple):
    """An input or output of the interpreter: the spec that callers see, and its NumPy type."""

    spec: TensorSpec
    dtype: Any

    def quantize(self, value: np.ndarray) -> np.ndarray:
        """Quantize real numbers: q = round(r / scale) + zero point.

        Numbers beyond the tensor's range are clipped to it, as in any quantized model. Stored
        numbers of the tensor's own type are not changed.
        """
        quantized = self.spec.quantized
        if quantized is None or value.dtype == self.dtype:
            return value.astype(self.dtype, copy=False)
        if np.isnan(value).any():
            raise ValueError(f"Input '{self.spec.name}': NaN has no {quantized.dtype}")
        limits = np.iinfo(self.dtype)
        steps = np.rint(value / quantized.scale) + quantized.zero_point
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)


class LiteRTModel:
    """One signature of a LiteRT model; each thread has its own interpreter."""

    runtime = Runtime("litert")

    def __init__(self, path: str, signature_name: str) -> None:
        """Load the file and find out whether its batch can be resized.

        Raises:
          ModelError: the file has no such signature, or an op that LiteRT does not have.
          Exception: any error of LiteRT about the file.
        """
        self._path, self._name = path, signature_name
        # The file may change later; every thread must load the same bytes.
        self._content = Path(path).read_bytes()
        runner = self._make_runner()
        self.facts: LiteRTFacts = read_litert_file(self._content)
        problem = self.facts.find_problem()
        if problem:
            raise ModelError(f"Model {path} cannot run: {problem}")
        self._interpreters = Interpreters(self._make_runner, self.facts)
        self._inputs = {n: _describe(path, n, detail) for n, detail in runner.inputs.items()}
        self._outputs = {n: _describe(path, n, detail) for n, detail in runner.outputs.items()}
        with without_noise(_NOISE):  # of the first call in a process
            resizes = self._resizes(runner)
        if resizes:
            self._inputs, self._outputs = map(_free_batch, (self._inputs, self._outputs))
        self.signature = Signature(
            signature_name,
            tuple(sorted(tensor.spec for tensor in self._inputs.values())),
            tuple(sorted(tensor.spec for tensor in self._outputs.values())),
        )

    @property
    def ops(self) -> tuple[str, ...]:
        """The ops of the file."""
        return self.facts.ops

    def call(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, Output]:
        """Return the named outputs for some rows; safe to call from several threads at once.

        A quantized output comes as the numbers that the file stores.
        """
        given = {}
        for name, value in inputs.items():
            given[name] = self._inputs[name].quantize(to_plain(value))
        called = self._interpreters.call(given)
        return {name: called[name] for name in outputs}

    def is_about_inputs(self, error: Exception) -> bool:
        """Return whether an op rejected the values of a call: a division by zero, for example."""
        return interpreters.is_about_inputs(error)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether a call failed because it was too large for the memory."""
        return interpreters.is_out_of_memory(error)

    def _make_runner(self) -> Runner:
        return make_runner(self._content, self._name, self._path)

    def _resizes(self, runner: Runner) -> bool:
        """Return whether calls may have a different number of rows than the file declares.

        Files declare a batch of 1 even if any size works, so only a trial can tell. Two sizes are
        tried, and the size of every output must follow. If the model rejects the values of the
        trial, zeros and ones, the sizes that the file declares decide.

        Raises:
          ModelError: LiteRT does not have an op of the model.
        """
        if any(not t.spec.shape for t in self._inputs.values()):
            return False
        for fill in (0, 1):
            try:
                return all(self._follows(runner, rows, fill) for rows in (2, 3))
            except Exception as e:  # LiteRT raises several kinds
                if _is_missing_op(e):
                    raise
                if not self.is_about_inputs(e):
                    return False
                runner = self._make_runner()
        return all((t.spec.shape or (0,))[0] is None for t in self._inputs.values())

    def _follows(self, runner: Runner, rows: int, fill: int) -> bool:
        """Return whether the first dimension of every output is the number of rows."""
        blank = {}
        for name, tensor in self._inputs.items():
            shape = [rows, *(1 if size is None else size for size in tensor.spec.row_shape)]
            is_text = tensor.spec.dtype == "string"
            text = b"1" if fill else b""
            blank[name] = np.full(
                shape, text if is_text else fill, object if is_text else tensor.dtype
            )
        called = runner.call(blank)
        return all(value.shape[:1] == (rows,) for value in called.values())


def _describe(path: str, name: str, detail: Mapping[str, Any]) -> _Tensor:
    sizes = detail.get("shape_signature", detail["shape"])
    if not len(sizes):
        sizes = detail["shape"]
    shape = tuple(None if size < 0 else int(size) for size in sizes)
    dtype = np.dtype(detail["dtype"])
    kind = "string" if dtype.kind in "OSU" else dtype.name
    quantized = _read_quantization(path, name, kind, detail.get("quantization_parameters", {}))
    seen = kind if quantized is None else "float32"
    return _Tensor(TensorSpec(name, seen, shape, quantized=quantized), detail["dtype"])


def _read_quantization(
    path: str, name: str, kind: str, found: Mapping[str, Any]
) -> Quantization | None:
    """Return how an input or output stores real numbers; None if it is not quantized.

    Raises:
      ModelError: each channel has its own scale, which no interpreter applies.
    """
    scales, zero_points = (list(found.get(key, ())) for key in ("scales", "zero_points"))
    if not any(scales) or np.dtype("O" if kind == "string" else kind).kind not in "iu":
        return None
    if len(scales) > 1:
        raise ModelError(
            f"Model {path} quantizes '{name}' with {len(scales)} scales; expected one for the "
            "whole tensor. Convert it with per-tensor quantization of its inputs and outputs"
        )
    return Quantization(kind, float(scales[0]), int(zero_points[0]))


def _free_batch(tensors: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    return {
        name: tensor._replace(spec=tensor.spec._replace(shape=(None, *tensor.spec.row_shape)))
        for name, tensor in tensors.items()
    }


def signature_names(path: str) -> list[str]:
    """Return the names of a file's signatures; `serving_default` if it declares none."""
    from ai_edge_litert.interpreter import Interpreter

    known = Interpreter(model_path=path, num_threads=1).get_signature_list()
    return sorted(known) or [DEFAULT_SIGNATURE]


def load_litert(path: str, signature_name: str, op_libraries: Sequence[str] = ()) -> LiteRTModel:
    """Load a signature of a `.tflite` file; a file without signatures has `serving_default`.

    Callers give quantized inputs as real numbers (float32), or as the stored numbers. The batch is
    resized if the file allows it. Otherwise calls have the number of rows that the file declares.

    Raises:
      ModelError: LiteRT is not installed, the file does not load, it has no such signature, or it
        uses an op that LiteRT does not have.
    """
    if op_libraries:
        raise ModelError(
            "--load_op_library: LiteRT takes no libraries of TensorFlow ops; convert the model "
            "without them"
        )
    try:
        return LiteRTModel(path, signature_name)
    except ModelError:
        raise
    except ImportError as e:
        raise ModelError(
            f"Model {path} needs LiteRT, which is not installed: pip install ai-edge-litert"
        ) from e
    except Exception as e:  # any failure of foreign code is an error of the model
        raise ModelError(f"Model {path} does not load: {_explain(e)}") from e


def _is_missing_op(error: Exception) -> bool:
    return "unresolved custom op" in str(error) or "Select TensorFlow op" in str(error)


def _explain(error: Exception) -> str:
    text = f"{type(error).__name__}: {first_lines(error)}"
    if "unresolved custom op" in text:
        return f"{text}. LiteRT has no such op; convert the model without it"
    if "Didn't find op for builtin opcode" in text:
        return (
            f"{text}. The file is newer than the installed LiteRT: pip install -U ai-edge-litert, "
            "or convert the model with an older converter"
        )
    return text
