"""What TensorFlow's library costs alone: a process that loads it, loads a model and calls it once.

    python -m benchmarks.tensorflow_floor build/models/flights [--keep_pages]

Prints a table: after each step, CPU seconds, resident MB (anonymous, of files) and their peak.
Nothing else is in the process but Python, numpy and pyarrow. With --keep_pages, the pages that only
loading has read stay mapped.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from scoreline.models.runtimes import ModelSource
from scoreline.models.runtimes.capi import library
from scoreline.models.runtimes.tensorflow_c import load_by_c
from scoreline.models.signature import TensorSpec
from scoreline.models.strings import ArrowStrings, Value
from scoreline.models.tensors import numpy_type

_SIGNATURE = "serving_default"
_SIZES = ("VmRSS", "RssAnon", "RssFile", "VmHWM")


def print_row(step: str) -> None:
    """Print the process's CPU seconds and memory so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    sizes = [f"{int(found[name].split()[0]) * 1024 / 1e6:.0f}" for name in _SIZES]
    sys.stdout.write(f"| {step} | {time.process_time():.2f} | {' | '.join(sizes)} |\n")


def make_value(spec: TensorSpec) -> Value:
    """Return one row of zeros or of an empty string."""
    shape = tuple(size or 1 for size in spec.shape or (1,))
    if spec.dtype == "string":
        return ArrowStrings(pa.array([""] * int(np.prod(shape))), shape)
    return np.zeros(shape, numpy_type(spec.dtype))


def main(argv: Sequence[str] | None = None) -> int:
    """Load, call and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--keep_pages", action="store_true")
    args = parser.parse_args(argv)
    if args.keep_pages:
        vars(library)["forget_pages"] = lambda _: None
    sys.stdout.write(
        "| after | CPU s | MB | anonymous | of files | peak |\n|---|--:|--:|--:|--:|--:|\n"
    )
    print_row("imports of Python, numpy and pyarrow")
    library.load_library()
    print_row("the library is loaded")
    model = load_by_c(ModelSource(args.model, _SIGNATURE))
    print_row("the model is loaded")
    signature = model.signature
    values = {spec.name: make_value(spec) for spec in signature.inputs}
    model.call(values, [spec.name for spec in signature.outputs])
    print_row("one call")
    return 0


if __name__ == "__main__":
    sys.exit(main())
