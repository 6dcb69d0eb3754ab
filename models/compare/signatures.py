"""Whether a model can be fed, and its outputs stored, as those of another."""

from __future__ import annotations

from collections.abc import Sequence

from scoreline.models.outputs import output_type
from scoreline.models.signature import Signature, TensorSpec


def find_differences(
    planned: Signature, new: Signature, outputs: Sequence[tuple[str, str]], *, all_outputs: bool
) -> list[str]:
    """Return why a model cannot be fed, or its outputs stored, as a job was planned.

    Inputs must have the same names and dtypes, and accept every value that the planned inputs
    accept. Outputs must become columns of the same types. A fixed dimension may have become free.

    Args:
      planned: the signature that the job was planned with.
      new: the signature of the other model.
      outputs: pairs of a stored output and its conversion, `binary` or "" (see `output_type`).
      all_outputs: whether all outputs are stored, so that a new output is a difference.
    """
    found = []
    if planned.example_input != new.example_input:
        found.append(
            f"input of serialized tf.Examples is '{new.example_input}', was "
            f"'{planned.example_input}'"
        )
    inputs = {spec.name: spec for spec in new.inputs}
    for spec in planned.inputs:
        other = inputs.pop(spec.name, None)
        if other is None:
            found.append(f"input '{spec.name}' is missing")
        elif not _takes(other, spec):
            found.append(f"input '{spec.name}' is {_described(other)}, was {_described(spec)}")
    found += [f"input '{name}' is new" for name in inputs]
    known = {spec.name: spec for spec in planned.outputs}
    given = {spec.name: spec for spec in new.outputs}
    for name, conversion in outputs:
        if name not in given:
            found.append(f"output '{name}' is missing")
            continue
        was, now = (output_type(specs[name], conversion) for specs in (known, given))
        if was != now:
            found.append(f"output '{name}' gives {now}, gave {was}")
    if all_outputs:
        found += [f"output '{name}' is new" for name in given if name not in known]
    return found


def _described(spec: TensorSpec) -> str:
    return f"{spec}, optional" if spec.optional else str(spec)


def _takes(new: TensorSpec, old: TensorSpec) -> bool:
    """Return whether an input accepts every value that another one accepts."""
    if new.dtype != old.dtype or (old.optional and not new.optional):
        return False
    if new.shape is None or (new.is_one_value and old.is_one_value):
        return True
    if old.shape is None or len(new.row_shape) != len(old.row_shape):
        return False
    return all(
        wants in (None, size) for wants, size in zip(new.row_shape, old.row_shape, strict=True)
    )
