"""The width of output: that of the terminal, or as much as its tables need."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from tests.fakes import ROOT

NAME = "region=" + "very-long-name-" * 8 + "end"
PRINT_TABLE = f"""
from scoreline.pipelines.report.console import make_console, make_table
table = make_table("partition", "state", "model")
table.add_row("{NAME}", "committed", "5eccf9e1eaea")
make_console().print(table, highlight=False)
"""


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return {**kept, **more}


def run_in_pipe(**more):
    done = subprocess.run(
        [sys.executable, "-c", PRINT_TABLE],
        cwd=ROOT,
        env=environment(**more),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def run_in_terminal(columns):
    main, terminal = pty.openpty()
    size = environment(TERM="xterm")
    code = f"import os; os.environ.pop('COLUMNS', None)\n{PRINT_TABLE}"
    subprocess.run(["stty", "cols", str(columns)], stdin=terminal, check=True)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=size, stdout=terminal, stdin=terminal
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(main, 4096):
            shown += chunk
    except OSError:  # Linux reports the end of a terminal as an error
        pass
    finally:
        os.close(main)
    assert process.wait() == 0
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("more", [{}, {"FORCE_COLOR": "1"}])
def test_in_a_pipe_a_table_is_as_wide_as_it_needs(more):
    lines = run_in_pipe(**more).splitlines()
    assert len(lines) == 2
    assert NAME in lines[1]
    assert "committed" in lines[1]
    assert len(lines[1]) < len(NAME) + 80  # but not wider


def test_columns_sets_the_width_of_a_pipe():
    lines = run_in_pipe(COLUMNS="60").splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("columns", [60, 100])
def test_on_a_terminal_a_table_is_as_wide_as_the_terminal_and_loses_nothing(columns):
    shown = run_in_terminal(columns)
    plain = shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    lines = plain.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= columns
    assert "".join(line.split(" ")[0] for line in lines[1:]) == NAME
