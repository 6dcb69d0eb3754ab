"""Import TensorFlow at low cost and without noise."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scoreline.models.errors import ModelError, first_lines
from scoreline.models.hiding import hiding
from scoreline.models.runtimes.noise import TENSORFLOW_NOISE, without_noise

# Parameters of glibc's mallopt(3), and the largest mmap threshold it takes on 64 bits.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MAX_MMAP_THRESHOLD_BYTES = 32 << 20
_KEPT_BYTES = 1 << 30


def import_tensorflow() -> Any:
    """Import TensorFlow without Keras, and return it.

    TensorFlow imports Keras eagerly if it is installed, and Keras imports scikit-learn, SciPy and
    pandas. That is 6 of the 15 CPU s of `import tensorflow` (TensorFlow 2.21), and loading a
    SavedModel needs none of it. TensorFlow works without Keras, so Keras is hidden during the
    import. It can be imported afterwards as usual.
    """
    if "tensorflow" in sys.modules or "keras" in sys.modules:
        return importlib.import_module("tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with hiding("keras"), without_noise(TENSORFLOW_NOISE):
        tf = importlib.import_module("tensorflow")
        tf.config.list_physical_devices("GPU")  # triggers the warnings about CUDA now
    return tf


def prepare_tensorflow(
    concurrent_calls: int | None = None, op_libraries: Sequence[str] = ()
) -> Any:
    """Import TensorFlow, set its threads, load libraries of custom ops, and return it.

    Raises:
      ModelError: a library does not load.
    """
    tf = import_tensorflow()
    if concurrent_calls is not None:
        limit_threads(concurrent_calls)
    for library in op_libraries:
        try:
            tf.load_op_library(str(Path(library).absolute()))
        except Exception as e:  # any failure of foreign code is an error of the library
            raise ModelError(
                f"--load_op_library {library}: {type(e).__name__}: {first_lines(e)}"
            ) from e
    return tf


def limit_threads(concurrent_calls: int) -> None:
    """Give TensorFlow one thread for each concurrent call, and none within a call.

    Workers are the parallelism: threads within a call would compete with those of other workers.
    The first caller in a process decides.
    """
    tf = import_tensorflow()
    with contextlib.suppress(RuntimeError):  # TensorFlow is initialized already: its setting stays
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(concurrent_calls)


def keep_freed_memory() -> bool:
    """Let malloc keep up to 1 GiB of freed memory for the next call; return whether it does.

    The tensors of a call are megabytes each. By default malloc returns them to the kernel after
    each call, and the next call faults them in again, page by page. That takes a quarter of a small
    model's time, and threads wait for each other in the kernel. A MALLOC_… variable in the
    environment takes precedence. Other C libraries have no such setting.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        and mallopt(_M_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD_BYTES)
    )
