"""Removes known, useless lines of C++ libraries from standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence

# What TensorFlow 2.21 writes to standard error on every machine without a GPU.
TENSORFLOW_NOISE = (
    b"before absl::InitializeLog()",
    b"oneDNN custom operations are on",
    b"cudart_stub",
    b"cuda_platform",
    b"failed call to cuInit",
    b"cpu_feature_guard",
    b"To enable the following instructions",
)

_LOCK = threading.Lock()


@contextlib.contextmanager
def without_noise(known: Sequence[bytes]) -> Iterator[None]:
    """Capture standard error, also of C++ code, and pass on all lines without noise.

    One thread at a time, because standard error belongs to the process.
    """
    with _LOCK:
        yield from _without_noise(known)


def _without_noise(known: Sequence[bytes]) -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not any(noise in line for noise in known):
                    os.write(2, line)
