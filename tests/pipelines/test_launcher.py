"""The launcher is light, and explicit about runners."""

from __future__ import annotations

import subprocess
import sys

import pytest
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from scoreline.pipelines.runners.runner import choose_runner
from tests.fakes import ROOT, assert_scored_whole, run_command


def test_importing_the_command_imports_neither_tensorflow_nor_keras():
    code = (
        "import sys, scoreline.pipelines.score_batch, demo.run_local\n"
        "print([m for m in ('tensorflow', 'keras', 'tfx_bsl', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_launcher_of_remote_workers_reads_the_signature_in_another_process(lake, model):
    code = f"""
import sys
from scoreline.models.model_spec import ModelSpec
from scoreline.pipelines.plan.model import PlannedModel
from scoreline.pipelines.runners.runner import choose_runner
runner = choose_runner(["--runner=FlinkRunner", "--environment_type=EXTERNAL"])
planned = PlannedModel(here=runner.shares_process)
signature = planned.read_signature(ModelSpec(path="{model}"))
planned.close()
print([spec.name for spec in signature.inputs], "tensorflow" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['n', 's', 'x'] False"


@pytest.mark.parametrize("flags", [[], ["--runner=DirectRunner"], ["--runner=FnApiRunner"]])
def test_local_runners_run_in_this_process_and_fetch_nothing(flags):
    runner = choose_runner(flags)
    assert isinstance(runner.make_pipeline(3).runner, FnApiRunner)
    assert runner.shares_process
    direct = runner.options.view_as(DirectOptions)
    assert (direct.direct_num_workers, direct.direct_running_mode) == (3, "multi_threading")


def test_prism_without_its_binary_is_refused(score):
    ended = score("--runner=PrismRunner")
    assert ended.code == 2
    assert "--runner=PrismRunner: expected --prism_location=PATH" in ended.err


@pytest.mark.slow
def test_worker_processes_give_the_same_rows(tmp_path, lake, model):
    ended = run_command(
        "scoreline",
        "batch",
        f"--input={lake}",
        f"--model={model}",
        "--keys=id",
        f"--output={tmp_path / 'scores'}",
        "--workers=2",
        "--direct_running_mode=multi_processing",
    )
    assert ended.code == 0, ended.err
    assert "900" in ended.out
    assert_scored_whole(lake, tmp_path / "scores")


def test_help_is_grouped_and_short():
    ended = run_command("scoreline", "batch", "--help")
    assert ended.code == 0
    for group in ("what is scored:", "with which model:", "where scores go:", "how it runs:"):
        assert group in ended.out
    assert len(ended.out.splitlines()) < 70
