"""The ops that TensorFlow's library has."""

from __future__ import annotations

import ctypes

from scoreline.models.runtimes.capi.library import load_library
from scoreline.models.runtimes.saved_model_proto import message_class


def known_ops() -> frozenset[str]:
    """Return the names of all ops of TensorFlow and of the libraries of ops loaded so far.

    Raises:
      LibraryError: TensorFlow's library does not load.
    """
    c = load_library().c
    buffer = c.TF_GetAllOpList()
    try:
        data = ctypes.string_at(buffer.contents.data, buffer.contents.length)
    finally:
        c.TF_DeleteBuffer(buffer)
    return frozenset(op.name for op in message_class("OpList").FromString(data).op)
