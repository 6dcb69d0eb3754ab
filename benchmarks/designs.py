"""The designs that are compared, what each is run on, and the command that runs it."""

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
# The bare loop with TensorFlow imported without Keras, as Scoreline does; only its start-up counts.
BARE_LOOP_WITHOUT_KERAS = "bare_loop_without_keras"
# A run on so few rows costs what starting up costs.
START_UP_ROWS = 1_000
# The most rows for designs that handle rows one by one.
_PEER_ROWS = 50_000
# What the bare loop is fastest with.
_CALL_ROWS = {"small": 32_768, "large": 16_384}


class Case(NamedTuple):
    """One design, run on one model and one number of rows."""

    design: str
    model: str
    workers: int
    rows: int

    def __str__(self) -> str:
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        return f"{self.design}, {self.model} model, {self.rows:,} rows{workers}"

    @property
    def slug(self) -> str:
        """This case as part of a file name."""
        return f"{self.design}-{self.model}-{self.workers}-{self.rows}"


def choose_cases(model: str, designs: Sequence[str], rows: int) -> list[Case]:
    """Return the runs of one repeat; the one that scores most rows comes first.

    Beside the rows asked for, each design gets so few that only starting up counts, and Scoreline
    also a tenth, to tell how memory grows.
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
    """Return the command that tells what rows cost beyond those of a small data set."""
    python, minus_m, module, *options = command
    return [python, minus_m, "benchmarks.steady", str(result), str(small), module, *options]


def examples_model(model: Path, cache: Path) -> Path:
    """Return where the model is that tfx-bsl runs: the same, taking serialized examples."""
    digits = digest_model(str(model)).partition(":")[2]
    return cache / f"examples-{digits[:12]}"


def export_examples_model(case: Case, workload: Workload, dataset: Path, output: Path) -> None:
    """Make the model that a case of tfx-bsl runs, unless it is there."""
    model = examples_model(workload.models[case.model], output.parent)
    if model.exists():
        return
    command = [*command_of(case, workload, dataset, output), "--export"]
    subprocess.run(command, check=True, capture_output=True)
