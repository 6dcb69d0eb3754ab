"""The command `scoreline`: one name, then what to do.

scoreline batch | stream | replay | table | inspect [options]
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "batch": ("score_batch", "score day partitions of a lake into a Delta table"),
    "stream": ("score_stream", "score a Kafka topic continuously"),
    "replay": ("replay", "score the dead letters of a table again"),
    "table": ("table", "status, verify, history, rollback, vacuum of a table of scores"),
    "inspect": ("inspect_model", "show a model's signatures, and whether it answers"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a command is imported when it is named."""
    given = list(sys.argv[1:] if argv is None else argv)
    name = given[0] if given else ""
    if name in COMMANDS:
        module = importlib.import_module(f"scoreline.pipelines.{COMMANDS[name][0]}")
        code: int = module.main(given[1:])
        return code
    is_help = name in ("-h", "--help")
    stream = sys.stdout if is_help else sys.stderr
    if not is_help:
        stream.write(f"Expected a command, got {name or 'none'}.\n")
    stream.write("usage: scoreline COMMAND [options]\n\n")
    for command, (_, purpose) in COMMANDS.items():
        stream.write(f"  {command:10}{purpose}\n")
    stream.write("\n`scoreline COMMAND --help` lists the options of a command.\n")
    return 0 if is_help else 2


if __name__ == "__main__":
    sys.exit(main())
