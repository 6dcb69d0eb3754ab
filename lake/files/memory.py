"""Numbers of Arrow arrays as NumPy arrays over the same memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_NAMES = {"halffloat": "float16", "float": "float32", "double": "float64"}


def view_numbers(array: pa.Array) -> np.ndarray:
    """Return integers or floats without a copy; what is stored in place of a null is among them.

    `to_numpy` copies if there are nulls, and `to_pandas_dtype` imports pandas: 0.3 CPU s.
    """
    dtype = np.dtype(_NAMES.get(str(array.type), str(array.type)))
    if not len(array):
        return np.empty(0, dtype)
    _, memory = array.buffers()
    return np.frombuffer(memory, dtype)[array.offset : array.offset + len(array)]
