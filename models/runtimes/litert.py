"""`.tflite` files, through LiteRT: TensorFlow is never imported."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scoreline.models.errors import ModelError, first_lines
from scoreline.models.runtimes.noise import without_noise
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from scoreline.models.tensors import StringCodes, Value

_NOISE = (b"INFO: Created TensorFlow Lite XNNPACK delegate",)


class _Tensor(NamedTuple):
    """An input or output of the interpreter, and the spec that callers see."""

    spec: TensorSpec
    dtype: Any
    scale: float
    zero_point: int

    def quantize(self, value: np.ndarray) -> np.ndarray:
        """Quantize real numbers: q = round(r / scale) + zero point.

        Numbers beyond the tensor's range are clipped to it, as in any quantized model.
        """
        if not self.scale:
            return value.astype(self.dtype, copy=False)
        if np.isnan(value).any():
            raise ValueError(f"Input '{self.spec.name}': NaN has no {np.dtype(self.dtype).name}")
        limits = np.iinfo(self.dtype)
        steps = np.rint(value / self.scale) + self.zero_point
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)

    def dequantize(self, value: np.ndarray) -> np.ndarray:
        """Return quantized numbers as real numbers: r = (q - zero point) · scale."""
        if not self.scale:
            return value
        return ((value.astype(np.float32) - self.zero_point) * np.float32(self.scale)).astype(
            np.float32
        )


class LiteRTModel:
    """One signature of a LiteRT model; each thread has its own interpreter."""

    def __init__(self, path: str, signature_name: str) -> None:
        """Load the file and find out whether its batch can be resized.

        Raises:
          ModelError: the file has no such signature.
          Exception: any error of LiteRT about the file.
        """
        self._path, self._name = path, signature_name
        # The file may change later; every thread must load the same bytes.
        self._content = Path(path).read_bytes()
        self._local = threading.local()
        runner = self._runner()
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        self._inputs = {name: _describe(name, detail) for name, detail in inputs.items()}
        self._outputs = {name: _describe(name, detail) for name, detail in outputs.items()}
        with without_noise(_NOISE):  # of the first call in a process
            resizes = self._resizes(runner)
        if resizes:
            self._inputs, self._outputs = map(_free_batch, (self._inputs, self._outputs))
        self._local.runner = None  # the trial may have left it partly resized
        self.signature = Signature(
            signature_name,
            tuple(sorted(tensor.spec for tensor in self._inputs.values())),
            tuple(sorted(tensor.spec for tensor in self._outputs.values())),
        )

    def call(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the named outputs for some rows; safe to call from several threads at once."""
        given = {}
        for name, value in inputs.items():
            plain = value.to_objects() if isinstance(value, StringCodes) else value
            given[name] = self._inputs[name].quantize(plain)
        called = self._runner()(**given)
        return {name: self._outputs[name].dequantize(called[name]) for name in outputs}

    def is_about_inputs(self, error: Exception) -> bool:
        """Return False: LiteRT's kernels take any value of the right type."""
        return False

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether a call failed because it was too large for the memory."""
        return "memory" in str(error).lower()

    def _runner(self) -> Any:
        """Return this thread's signature runner."""
        runner = getattr(self._local, "runner", None)
        if runner is None:
            runner = self._local.runner = self._make_runner()
        return runner

    def _make_runner(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=self._content, num_threads=1)
        known = interpreter.get_signature_list()
        if not known and self._name == DEFAULT_SIGNATURE:
            interpreter.allocate_tensors()
            return _PlainRunner(interpreter)
        if self._name not in known:
            names = ", ".join(sorted(known)) or DEFAULT_SIGNATURE
            raise ModelError(
                f"--signature: model {self._path} has no signature '{self._name}'; it has {names}"
            )
        return interpreter.get_signature_runner(self._name)

    def _resizes(self, runner: Any) -> bool:
        """Return whether calls may have a different number of rows than the file declares.

        Files declare a batch of 1 even if any size works, so only a trial can tell. Two sizes are
        tried, and the size of every output must follow.
        """
        if any(not t.spec.shape for t in self._inputs.values()):
            return False
        try:
            for rows in (2, 3):
                blank = {}
                for name, tensor in self._inputs.items():
                    shape = [rows, *(1 if size is None else size for size in tensor.spec.row_shape)]
                    kind = object if tensor.spec.dtype == "string" else tensor.dtype
                    blank[name] = np.full(shape, b"" if kind is object else 0, kind)
                called = runner(**blank)
                if any(value.shape[:1] != (rows,) for value in called.values()):
                    return False
        except Exception:  # noqa: BLE001  LiteRT raises several kinds; the answer is no
            return False
        return True


class _PlainRunner:
    """Calls a file without signatures; inputs and outputs have the names of its tensors."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter

    def get_input_details(self) -> dict[str, Any]:
        return {detail["name"]: detail for detail in self._interpreter.get_input_details()}

    def get_output_details(self) -> dict[str, Any]:
        return {detail["name"]: detail for detail in self._interpreter.get_output_details()}

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        details = self.get_input_details()
        for name, value in inputs.items():
            if tuple(details[name]["shape"]) != value.shape:
                self._interpreter.resize_tensor_input(details[name]["index"], value.shape)
        self._interpreter.allocate_tensors()
        for name, value in inputs.items():
            self._interpreter.set_tensor(details[name]["index"], value)
        self._interpreter.invoke()
        return {
            name: self._interpreter.get_tensor(detail["index"])
            for name, detail in self.get_output_details().items()
        }


def _describe(name: str, detail: Mapping[str, Any]) -> _Tensor:
    sizes = detail.get("shape_signature", detail["shape"])
    if not len(sizes):
        sizes = detail["shape"]
    shape = tuple(None if size < 0 else int(size) for size in sizes)
    dtype = np.dtype(detail["dtype"])
    kind = "string" if dtype.kind in "OSU" else dtype.name
    scale, zero_point = detail.get("quantization", (0.0, 0))
    if kind not in ("int8", "uint8", "int16"):
        scale = 0.0
    seen = "float32" if scale else kind
    return _Tensor(TensorSpec(name, seen, shape), detail["dtype"], float(scale), int(zero_point))


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

    Callers see quantized inputs and outputs as real numbers, float32. The batch is resized if the
    file allows it. Otherwise calls have the number of rows that the file declares.

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


def _explain(error: Exception) -> str:
    text = f"{type(error).__name__}: {first_lines(error)}"
    if "unresolved custom op" in text:
        return f"{text}. LiteRT has no such op; convert the model without it"
    if "Select TensorFlow op" in text or "Flex" in text:
        return f"{text}. Convert the model with LiteRT's own ops only, without SELECT_TF_OPS"
    return text
