"""Variants: lookups in Arrow or a front in TensorFlow, and the numeric rest in LiteRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from scoreline.models.errors import ModelError, describe_error
from scoreline.models.runtimes import interpreters
from scoreline.models.runtimes.interpreters import Interpreters
from scoreline.models.runtimes.litert_file import read_litert_file
from scoreline.models.runtimes.litert_runner import make_fixed_runner
from scoreline.models.runtimes.lookup import Lookup, read_lookup
from scoreline.models.runtimes.model import Model, Runtime
from scoreline.models.runtimes.noise import without_noise
from scoreline.models.runtimes.variant_file import (
    FRONT,
    FRONT_FOLDER,
    INPUT,
    MODEL_FILE,
    Manifest,
    read_manifest,
)
from scoreline.models.strings import Output, Value, to_plain

_NOISE = (b"INFO: Created TensorFlow Lite XNNPACK delegate",)
LoadFront = Callable[[str], Model]


class VariantModel:
    """A variant; every call has the number of rows that the signature fixes."""

    def __init__(
        self, content: bytes, manifest: Manifest, lookups: Sequence[Lookup], front: Model | None
    ) -> None:
        """Join the parts.

        Raises:
          ModelError: the numeric part has an op that LiteRT does not have.
          Exception: any error of LiteRT about the numeric part.
        """
        facts = read_litert_file(content)
        problem = facts.find_problem()
        if problem:
            raise ModelError(f"the numeric part cannot run: {problem}")
        self.signature = manifest.signature
        self.ops = (*facts.ops, *(() if front is None else front.ops))
        self.runtime = Runtime("litert" if front is None else f"litert+{front.runtime.name}")
        self._manifest, self._lookups, self._front = manifest, lookups, front
        self._cuts = sorted(s.name for s in manifest.sources.values() if s.kind == FRONT)

        with without_noise(_NOISE):  # of the first interpreter in a process
            self._dtypes = {n: d["dtype"] for n, d in make_fixed_runner(content).inputs.items()}
        self._interpreters = Interpreters(lambda: make_fixed_runner(content), facts)

    def call(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, Output]:
        """Return the named outputs for some rows; safe to call from several threads at once."""
        cuts: Mapping[str, Output] = {}
        if self._front is not None:
            taken = {name: inputs[name] for name in self._manifest.front_inputs}
            cuts = self._front.call(taken, self._cuts)
        given = {}
        for name, (kind, source) in self._manifest.sources.items():
            if kind == INPUT:
                value = to_plain(inputs[source])
            elif kind == FRONT:
                value = self._check_rows(np.asarray(cuts[source]))
            else:
                at = int(source)
                value = self._lookups[at].find(inputs[self._manifest.lookups[at].input])
            given[name] = value.astype(self._dtypes[name], copy=False)
        called = self._interpreters.call(given)
        return {name: called[self._manifest.outputs[name]] for name in outputs}

    def _check_rows(self, value: np.ndarray) -> np.ndarray:
        rows = self.signature.batch_rows
        if value.shape[:1] != (rows,):
            raise ValueError(
                f"Expected the front of the variant to give {rows} rows, got {list(value.shape)}. "
                "Score the parent instead"
            )
        return value

    def is_about_inputs(self, error: Exception) -> bool:
        """Return whether a call may have failed because of its inputs."""
        if interpreters.is_about_inputs(error):
            return True
        return self._front is not None and self._front.is_about_inputs(error)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether a call failed because it was too large for the memory."""
        if interpreters.is_out_of_memory(error):
            return True
        return self._front is not None and self._front.is_out_of_memory(error)


def load_variant(
    path: str, signature_name: str, op_libraries: Sequence[str], load_front: LoadFront
) -> VariantModel:
    """Load a variant.

    Args:
      path: its folder.
      signature_name: it has one signature, that of its parent which it was made from.
      op_libraries: libraries of TensorFlow ops, for the front.
      load_front: loads a SavedModel at a path.

    Raises:
      ModelError: LiteRT is not installed, there is no such signature, or a part does not load.
    """
    manifest = read_manifest(path)
    if signature_name != manifest.signature.name:
        raise ModelError(
            f"--signature: variant {path} has only '{manifest.signature.name}', not "
            f"'{signature_name}'"
        )
    if op_libraries and not manifest.front_inputs:
        raise ModelError(
            f"--load_op_library: variant {path} runs no op of TensorFlow. Leave the option out"
        )
    folder = Path(path)
    try:
        lookups = [read_lookup(str(folder / file), value) for _, file, value in manifest.lookups]
        front = load_front(str(folder / FRONT_FOLDER)) if manifest.front_inputs else None
        return VariantModel((folder / MODEL_FILE).read_bytes(), manifest, lookups, front)
    except ImportError as e:
        raise ModelError(
            f"Variant {path} needs LiteRT: pip install 'scoreline[litert]' ({e})"
        ) from e
    except ModelError as e:
        raise ModelError(f"Variant {path} does not load: {e}") from e
    except (OSError, pa.ArrowException, LookupError, ValueError, RuntimeError) as e:
        raise ModelError(f"Variant {path} does not load: {describe_error(e)}") from e
