"""The ops that the installed TensorFlow lacks."""

from __future__ import annotations

from collections.abc import Iterable

from scoreline.models.runtimes.capi.errors import LibraryError
from scoreline.models.runtimes.capi.library import find_unknown_ops, load_library


def find_unknown(ops: Iterable[str]) -> set[str]:
    """Return the ops that TensorFlow, with the libraries loaded so far, does not have."""
    try:
        return set(find_unknown_ops(load_library(), ops))
    except LibraryError:  # a TensorFlow without the C API: ask its Python
        from scoreline.models.runtimes.tensorflow import import_tensorflow

        import_tensorflow()
        from tensorflow.python.framework import op_def_registry

        return {op for op in ops if op_def_registry.get(op) is None}
