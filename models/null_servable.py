"""A loaded model that is not called: it answers zeros. For load tests without the model's cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from scoreline.models.outputs import output_type
from scoreline.models.servable import CallRows, Servable
from scoreline.models.signature import InputColumn


class NullServable:
    """Answers like a servable, with zeros, false and empty strings, without a call of the model.

    Attributes:
      signature, digest, runtime, load_ms: those of the servable.
    """

    def __init__(self, servable: Servable) -> None:
        """Take the place of a servable."""
        self._servable = servable
        self.signature, self.digest = servable.signature, servable.digest
        self.runtime, self.load_ms = servable.runtime, servable.load_ms

    @property
    def call_size(self) -> CallRows:
        """The number of rows per call of the servable."""
        return self._servable.call_size

    def predict(
        self,
        features: Mapping[str, pa.Array],
        rows: int,
        outputs: Sequence[str] | None = None,
        *,
        sources: Sequence[InputColumn] = (),
        conversions: Mapping[str, str] | None = None,
    ) -> dict[str, pa.Array]:
        """Return columns of the right types, with one value where their lists have a free size."""
        kept = conversions or {}
        return {
            spec.name: zeros(output_type(spec, kept.get(spec.name, "")), rows)
            for spec in self.signature.outputs
            if outputs is None or spec.name in outputs
        }

    def close(self) -> None:
        """Close the servable."""
        self._servable.close()


def zeros(kind: pa.DataType, rows: int) -> pa.Array:
    """Return rows of zeros, false, empty strings, or lists of them."""
    if pa.types.is_fixed_size_list(kind):
        values = zeros(kind.value_type, rows * kind.list_size)
        return pa.FixedSizeListArray.from_arrays(values, type=kind)
    if pa.types.is_list(kind):
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32))
        return pa.ListArray.from_arrays(offsets, zeros(kind.value_type, rows), type=kind)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return pa.repeat(pa.scalar("", kind), rows)
    return pa.array(np.zeros(rows, kind.to_pandas_dtype()), kind)
