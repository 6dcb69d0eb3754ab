"""A good run says nothing on stderr, whatever its libraries log."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.fakes import ROOT


def run(*args):
    hidden = ("TF_CPP_MIN_LOG_LEVEL", "PYTHONWARNINGS")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-m", "scoreline", *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_good_run_and_a_look_at_its_table_leave_stderr_empty(model, lake, tmp_path):
    output = tmp_path / "scores"
    scoring = ["--input", lake, "--model", model, "--keys=id", "--output", output]
    code, out, err = run("batch", *scoring)
    assert (code, err) == (0, "")
    assert "3 committed" in out
    for action in ("status", "verify", "history", "vacuum"):
        code, out, err = run("table", action, "--output", output)
        assert (code, err) == (0, ""), action
        assert out


def test_a_check_and_an_inspection_leave_stderr_empty(model, lake, tmp_path):
    where = ["--input", lake, "--model", model]
    for args in (
        ["batch", "--check", *where, "--keys=id", "--output", tmp_path / "scores"],
        ["inspect", *where],
    ):
        code, out, err = run(*args)
        assert (code, err) == (0, "")
        assert "scores of the first rows" in out
