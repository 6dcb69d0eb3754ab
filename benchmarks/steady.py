"""The cost of rows after start-up: run a design three times in one process.

    python -m benchmarks.steady RESULT START_UP_DATASET MODULE OPTION…

runs `MODULE.main` twice on the small data set and then with the given options. It writes the costs
of the second and the third run to RESULT. The first run pays for imports and other one-time work.
The second run measures the fixed cost of a job. The difference of the two is the cost of the rows
alone. Between two processes this difference would be lost in the noise of TensorFlow's import,
which varies by more than the cost of a million rows.
"""

from __future__ import annotations

import gc
import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """CPU and wall time in seconds, of this process and of its ended children."""

    cpu_s: float
    wall_s: float

    @classmethod
    def so_far(cls) -> Cost:
        """Return both times since a fixed moment."""
        usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(sum(u.ru_utime + u.ru_stime for u in usages), time.perf_counter())

    def minus(self, other: Cost) -> Cost:
        """Return the difference of both times."""
        return Cost(self.cpu_s - other.cpu_s, self.wall_s - other.wall_s)


def main() -> int:
    result, small, module, *options = sys.argv[1:]
    design = importlib.import_module(module)
    if hasattr(design, "__path__"):  # a package that `python -m` runs, such as scoreline
        design = importlib.import_module(f"{module}.__main__")
    output = next(o for o in options if o.startswith("--output="))
    costs = []
    for number in (1, 2, 3):
        replaced = {"--input": small, "--output": f"{output.partition('=')[2]}-{number}"}
        job = _replace(options, replaced) if number < 3 else options
        gc.collect()
        before = Cost.so_far()
        if design.main(job):
            return 1
        costs.append(Cost.so_far().minus(before))
    Path(result).write_text(json.dumps(costs[2].minus(costs[1])))
    return 0


def _replace(options: list[str], values: dict[str, str]) -> list[str]:
    names = [option.partition("=")[0] for option in options]
    return [
        f"{name}={values[name]}" if name in values else option
        for name, option in zip(names, options, strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
