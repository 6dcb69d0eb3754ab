"""Calls of a LiteRT interpreter, with inputs and outputs by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from scoreline.models.errors import ModelError
from scoreline.models.signature import DEFAULT_SIGNATURE, unique_names


class Runner(Protocol):
    """One interpreter; for one thread.

    Attributes:
      inputs, outputs: the details of each tensor, by name.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]

    def call(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Return all outputs, as the file stores them."""

    def reset(self) -> bool:
        """Set variable tensors to zero, after a call; return whether that was possible."""


def make_runner(content: bytes, signature_name: str, path: str) -> Runner:
    """Return a new interpreter for a signature; `path` is for messages.

    Raises:
      ModelError: the file has no such signature.
      Exception: any error of LiteRT about the file.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    known = interpreter.get_signature_list()
    if not known and signature_name == DEFAULT_SIGNATURE:
        interpreter.allocate_tensors()
        return _PlainRunner(interpreter)
    if signature_name not in known:
        names = ", ".join(sorted(known)) or DEFAULT_SIGNATURE
        raise ModelError(
            f"--signature: model {path} has no signature '{signature_name}'; it has {names}"
        )
    if "self" in known[signature_name]["inputs"]:
        raise ModelError(
            f"Model {path}: signature '{signature_name}' has an input 'self', a name that LiteRT "
            "cannot be called with. Convert the model with another name"
        )
    return _SignatureRunner(interpreter, signature_name)


def make_fixed_runner(content: bytes) -> Runner:
    """Return a new interpreter for the only signature of a file, which is never resized.

    XNNPACK takes no part of a graph whose sizes change. Inputs must have the sizes of the file.

    Raises:
      Exception: any error of LiteRT about the file.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return _FixedRunner(interpreter)


class _FixedRunner:
    """Calls with the sizes of the file; inputs and outputs have the names of its signature."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        runner = interpreter.get_signature_runner()
        self.inputs: Mapping[str, Any] = runner.get_input_details()
        self.outputs: Mapping[str, Any] = runner.get_output_details()

    def call(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return _invoke(self._interpreter, self, inputs)

    def reset(self) -> bool:
        return _reset(self._interpreter)


class _SignatureRunner:
    """Calls a signature; inputs and outputs have its names."""

    def __init__(self, interpreter: Any, name: str) -> None:
        self._interpreter = interpreter
        self._runner = interpreter.get_signature_runner(name)
        self.inputs: Mapping[str, Any] = self._runner.get_input_details()
        self.outputs: Mapping[str, Any] = self._runner.get_output_details()

    def call(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        called: Mapping[str, np.ndarray] = self._runner(**inputs)
        return called

    def reset(self) -> bool:
        return _reset(self._interpreter)


class _PlainRunner:
    """Calls a file without signatures: by position, because tensors may have equal names or none.

    Names are those of the tensors, made unique.
    """

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self.inputs: Mapping[str, Any] = _by_name(interpreter.get_input_details(), "input")
        self.outputs: Mapping[str, Any] = _by_name(interpreter.get_output_details(), "output")
        self._shapes = {name: tuple(detail["shape"]) for name, detail in self.inputs.items()}

    def call(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        if any(self._shapes[name] != value.shape for name, value in inputs.items()):
            for name, value in inputs.items():
                self._interpreter.resize_tensor_input(self.inputs[name]["index"], value.shape)
                self._shapes[name] = value.shape
            self._interpreter.allocate_tensors()
        return _invoke(self._interpreter, self, inputs)

    def reset(self) -> bool:
        return _reset(self._interpreter)


def _invoke(
    interpreter: Any, runner: Runner, inputs: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Call an interpreter by the positions of its tensors."""
    for name, value in inputs.items():
        interpreter.set_tensor(runner.inputs[name]["index"], value)
    interpreter.invoke()
    return {
        name: interpreter.get_tensor(detail["index"]) for name, detail in runner.outputs.items()
    }


def _reset(interpreter: Any) -> bool:
    try:
        interpreter.reset_all_variables()
    except RuntimeError:  # the variables of another signature, which was never called
        return False
    return True


def _by_name(details: list[Any], kind: str) -> dict[str, Any]:
    names = unique_names([detail["name"] for detail in details], kind)
    return dict(zip(names, details, strict=True))
