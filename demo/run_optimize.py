"""Cheaper variants of the demo's models: `make optimize`.

Makes variants of the small and of the large model, compares them with what happened to the flights
of November and December, and scores with the cheapest one that is as good.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from demo.data import KEY, prepare_flights
from demo.features import LATE_MINUTES
from demo.model import FILLS, export_large, train_flights
from demo.run_local import DATASET, HELD_OUT, MODEL

MODELS = {"small": MODEL, "large": f"{MODEL}_large"}
OPTIMIZED = "build/optimized"


def arguments(model: str, output: str) -> list[str]:
    """Return the command line that makes variants of a model."""
    return [
        f"--model={model}",
        f"--input={DATASET}",
        f"--partitions={HELD_OUT}",
        f"--keys={KEY}",
        f"--label=arr_delay>={LATE_MINUTES + 1}",
        "--slices=carrier,origin",
        f"--output={output}",
        *(f"--fill={name}={value}" for name, value in FILLS.items()),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Make variants of both models; return the first exit code that is not 0."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", choices=tuple(MODELS), help="only one of the two models")
    given, further = parser.parse_known_args(argv)
    prepare_flights(DATASET)
    for name, model in MODELS.items():
        if given.only not in (None, name):
            continue
        (train_flights if name == "small" else export_large)(DATASET, model)
        output = Path(OPTIMIZED, name)
        shutil.rmtree(output, ignore_errors=True)  # of an earlier run
        sys.stdout.write(f"\n{name} model\n\n")
        sys.stdout.flush()
        command = [sys.executable, "-m", "scoreline", "optimize"]
        code = subprocess.run(
            [*command, *arguments(model, str(output)), *further], check=False
        ).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
