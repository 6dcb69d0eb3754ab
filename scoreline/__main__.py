"""The command `scoreline` and its subcommands.

    scoreline batch | stream | replay | table | inspect | load-test | optimize [options]

Exit codes of every command: 0 success; 1 a restart may succeed; 2 a user must correct options or
input; 3 success, and some rows are dead letters; 4 a limit of a load test does not hold; 5 the
measurement of a load test is invalid; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import atexit
import difflib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from scoreline import __version__
from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_STOPPED, EXIT_WRONG

COMMANDS = {
    "batch": "score day partitions of a lake into a Delta table",
    "stream": "score a Kafka topic continuously",
    "replay": "score the dead letters of a table again",
    "table": "show, verify, roll back and clean a table of scores",
    "inspect": "show a model's signatures, and whether it answers",
    "load-test": "find the load that a stream or a batch holds, and its bottleneck",
    "optimize": "make cheaper variants of a model, and prove which are as good",
}


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Run one command and return its exit code. Only this command is imported.

    Args:
      argv: the arguments; None for those of the process.
      own_process: whether the process is only for this command. Then libraries that the command
        does not need are hidden from the libraries that would import them.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(given, own_process)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has ended. Python would print an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_STOPPED
    return code


def _run(given: list[str], own_process: bool) -> int:
    if given[:1] == ["help"]:
        given = [*given[1:2], "--help"]
    name = given[0] if given else ""
    if name in ("-h", "--help"):
        sys.stdout.write(usage())
        return EXIT_OK
    if name == "--version":
        sys.stdout.write(f"scoreline {__version__}\n")
        return EXIT_OK
    if name not in COMMANDS:
        sys.stderr.write(f"{_unknown(name)}\n\n{usage()}")
        return EXIT_WRONG
    if not own_process:
        return _import_command(name)(given[1:])
    from scoreline.models.hiding import keep_pandas_out
    from scoreline.transforms.worker.heap import importing

    keep_pandas_out()
    with importing():
        command = _import_command(name, own_process=True)
    return command(given[1:])


def _import_command(name: str, *, own_process: bool = False) -> Callable[[list[str]], int]:
    """Return a command, which takes its arguments and returns its exit code."""
    if name == "table":
        from scoreline.pipelines import table

        return table.main
    from scoreline.pipelines import command

    return functools.partial(command.run, name, own_process=own_process)


def usage() -> str:
    """Return the output of `scoreline --help`."""
    commands = "".join(f"  {name:11}{purpose}\n" for name, purpose in COMMANDS.items())
    return (
        f"usage: scoreline COMMAND [options]\n\n{commands}\n"
        "`scoreline COMMAND --help` lists the options of a command, `scoreline --version` prints "
        "the version.\n"
    )


def _unknown(name: str) -> str:
    if not name:
        return "Expected a command, got none."
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    advice = f" Did you mean '{near[0]}'?" if near else ""
    return f"Expected a command, got '{name}'.{advice}"


def run() -> NoReturn:
    """Run the command and end the process, even if a thread of a client library hangs.

    A supervisor that restarts a failed job waits for its end.
    """
    code = main(own_process=True)
    if code == EXIT_FAILED:
        atexit._run_exitfuncs()  # Beam ends runners that it started
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
