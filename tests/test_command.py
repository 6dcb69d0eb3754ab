"""The command `scoreline`: its subcommands, its version, its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scoreline import __main__ as command
from scoreline import __version__
from tests.fakes import ROOT


def run(*args, **options):
    return subprocess.run(
        [sys.executable, "-m", "scoreline", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["help"]])
def test_help_names_every_command_and_ends_with_0(capsys, args):
    assert command.main(args) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(f"\n  {name} " in out for name in command.COMMANDS)


def test_version_is_printed_alone(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr() == (f"scoreline {__version__}\n", "")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bacth", "Expected a command, got 'bacth'. Did you mean 'batch'?\n"),
        ("tables", "Expected a command, got 'tables'. Did you mean 'table'?\n"),
        ("xyz", "Expected a command, got 'xyz'.\n"),
    ],
)
def test_an_unknown_command_is_refused_with_the_nearest_one(capsys, name, told):
    assert command.main([name, "--input=lake"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(told)
    assert "usage: scoreline COMMAND" in err


def test_no_command_is_refused(capsys):
    assert command.main([]) == 2
    assert capsys.readouterr().err.startswith("Expected a command, got none.\n")


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_has_help(capsys, name):
    with pytest.raises(SystemExit) as end:
        command.main([name, "--help"])
    assert end.value.code in (0, None)
    assert f"usage: scoreline {name}" in capsys.readouterr().out


def test_help_for_a_command_is_its_own_help(capsys):
    with pytest.raises(SystemExit):
        command.main(["help", "table"])
    assert "usage: scoreline table" in capsys.readouterr().out


def test_the_module_runs_as_the_console_script_does():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"scoreline {__version__}\n")
    assert run("bacth").returncode == 2


def test_a_reader_that_has_read_enough_is_no_error():
    """Like `scoreline table history | head -1`: the pipe closes before the first write."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "scoreline", "--help"],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failed_command_ends_even_if_a_thread_of_a_client_hangs():
    code = (
        "import threading\n"
        "from scoreline import __main__ as command\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "command.main = lambda **_: 1\n"
        "command.run()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 1
