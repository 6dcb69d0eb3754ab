"""What a command reports: text for a person, or one JSON object for a program."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scoreline import __version__
from scoreline.pipelines.report.console import make_console, say

if TYPE_CHECKING:
    from rich.console import Console

# Commands whose `--check` has an object of its own.
_CHECKED = ("batch", "stream")


class Reporter:
    """Where one command reports. With JSON, stdout is kept for the one object.

    Attributes:
      kind: the name of the object's schema, as `table_status`: docs/schemas/table_status-1.json.
    """

    def __init__(self, kind: str, *, as_json: bool = False, quiet: bool = False) -> None:
        """Take what the command line asks for; consoles are made when they are needed.

        Args:
          kind: of the object.
          as_json: whether to print the object, and nothing else on stdout.
          quiet: whether to show a person no results.
        """
        self.kind = kind
        self._as_json = as_json
        self._quiet = quiet

    @functools.cached_property
    def console(self) -> Console:
        """For results and progress that a person reads."""
        return make_console(stderr=self._as_json, quiet=self._quiet)

    @functools.cached_property
    def errors(self) -> Console:
        """For what went wrong."""
        return make_console(stderr=True)

    def show(self, print_on: Callable[[Console], object]) -> None:
        """Show a result to a person; with JSON, do nothing."""
        if not self._as_json:
            print_on(self.console)

    def tell(self, *sentences: str) -> None:
        """Print sentences to a person; with JSON, do nothing."""
        for sentence in sentences:
            self.show(functools.partial(say, text=sentence))

    def end(
        self,
        exit_code: int,
        fields: Mapping[str, Any] | None = None,
        problems: Sequence[str] = (),
        advice: str = "",
    ) -> int:
        """Print the problems, and with JSON the one object; return the exit code.

        Args:
          exit_code: of the command.
          fields: what the schema asks for when the command did something.
          problems: sentences about what is wrong.
          advice: what a person can do now.
        """
        if len(problems) > 1:
            sys.stderr.write(f"{len(problems)} things are wrong:\n")
        for sentence in (*problems, *([advice] if advice else [])):
            sys.stderr.write(f"{sentence}\n")
        if self._as_json:
            head = {
                "schema": f"scoreline.{self.kind}/1",
                "version": __version__,
                "exit_code": exit_code,
                "problems": list(problems),
            }
            document = _plain({**head, **(fields or {})})
            sys.stdout.write(json.dumps(document, indent=1, allow_nan=False) + "\n")
        return exit_code


def make_reporter(name: str, argv: Sequence[str]) -> Reporter:
    """Return the reporter that a command line of a command asks for."""
    is_check = "--check" in argv and name in _CHECKED
    return Reporter(f"{name}_check" if is_check else name, as_json="--json" in argv)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: bytes as hex digits, numbers that are not finite as text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
