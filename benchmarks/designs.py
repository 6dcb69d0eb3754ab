"""The designs to compare, their inputs, and their commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.data import KEY, Workload
from scoreline.models.artifact import digest_model

BARE_LOOP, SCORELINE = "bare_loop", "scoreline"
BEAM, TFX_BSL = "beam_runinference", "tfx_bsl"
DESIGNS = (BARE_LOOP, SCORELINE, BEAM, TFX_BSL)
# Designs whose whole command is measured too, from its start to its end.
WHOLE = (BARE_LOOP, SCORELINE)
# The bare loop without Keras in TensorFlow's import, like Scoreline. Only its start-up counts.
BARE_LOOP_WITHOUT_KERAS = "bare_loop_without_keras"
# The cost of a run on this few rows is the cost of start-up.
START_UP_ROWS = 1_000
# Maximum number of rows for designs that process rows one by one.
_PEER_ROWS = 50_000
# The fastest call sizes of the bare loop.
_CALL_ROWS = {"small": 32_768, "large": 16_384}


class Case(NamedTuple):
    """A run of one design on one model and one number of rows."""

    design: str
    model: str
    workers: int
    rows: int

    def __str__(self) -> str:
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        return f"{self.design}, {self.model} model, {self.rows:,} rows{workers}"

    @property
    def slug(self) -> str:
        """Name of this case in file names."""
        return f"{self.design}-{self.model}-{self.workers}-{self.rows}"


def choose_cases(model: str, designs: Sequence[str], rows: int) -> list[Case]:
    """Return the runs of one repeat; the run with the most rows comes first.

    Each design also runs on so few rows that only start-up counts. Scoreline also runs on a tenth
    of the rows, to measure the growth of memory.
    """
    cases = []
    for design in (BARE_LOOP, SCORELINE):
        for workers in (1, 2) if design == SCORELINE else (1,):
            if design in designs:
                cases += [Case(design, model, workers, n) for n in (rows, START_UP_ROWS)]
    if BARE_LOOP in designs:
        cases.append(Case(BARE_LOOP_WITHOUT_KERAS, model, 1, START_UP_ROWS))
    if SCORELINE in designs:
        cases.append(Case(SCORELINE, model, 1, rows // 10))
    for design in (BEAM, TFX_BSL):
        if design in designs:
            cases += [Case(design, model, 1, n) for n in (min(rows, _PEER_ROWS), START_UP_ROWS)]
    return cases


def command_of(case: Case, workload: Workload, dataset: Path, output: Path) -> list[str]:
    """Return the command that runs a case, as a user would type it."""
    model = workload.models[case.model]
    common = [f"--input={dataset}", f"--model={model}", f"--output={output}"]
    common += [f"--fill={name}={value}" for name, value in workload.fills.items()]
    if case.design == SCORELINE:
        keep = ",".join(workload.keep)
        options = [f"--keys={KEY}", f"--keep={keep}", f"--workers={case.workers}"]
        return [sys.executable, "-m", "scoreline", "batch", *common, *options]
    digest = digest_model(str(model))
    common += [f"--carried={','.join([KEY, *workload.keep])}", f"--model_digest={digest}"]
    if case.design in (BARE_LOOP, BARE_LOOP_WITHOUT_KERAS):
        common += [f"--call_rows={_CALL_ROWS[case.model]}"]
        common += ["--hide_keras"] if case.design == BARE_LOOP_WITHOUT_KERAS else []
        return [sys.executable, "-m", "benchmarks.bare_loop", *common]
    if case.design == BEAM:
        return [sys.executable, "-m", "benchmarks.beam_runinference", *common]
    examples = f"--examples_model={examples_model(model, output.parent)}"
    return [sys.executable, "-m", "benchmarks.tfx_bsl_runinference", *common, examples]


def steady_command_of(command: Sequence[str], result: Path, small: Path) -> list[str]:
    """Return the command that measures the cost of rows beyond those of a small data set."""
    python, minus_m, module, *options = command
    return [python, minus_m, "benchmarks.steady", str(result), str(small), module, *options]


def examples_model(model: Path, cache: Path) -> Path:
    """Return the path of tfx-bsl's model: the same model, with serialized examples as input."""
    digits = digest_model(str(model)).partition(":")[2]
    return cache / f"examples-{digits[:12]}"


def export_examples_model(case: Case, workload: Workload, dataset: Path, output: Path) -> None:
    """Create the model of a case of tfx-bsl, unless it exists."""
    model = examples_model(workload.models[case.model], output.parent)
    if model.exists():
        return
    command = [*command_of(case, workload, dataset, output), "--export"]
    subprocess.run(command, check=True, capture_output=True)
