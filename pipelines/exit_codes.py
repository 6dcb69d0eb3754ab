"""The exit codes of commands."""

from __future__ import annotations

EXIT_OK = 0
# It failed, or a server does not answer: a restart continues, and may succeed.
EXIT_FAILED = 1
# Options or input are wrong: a user must correct them.
EXIT_WRONG = 2
EXIT_DEAD_LETTERS = 3
EXIT_STOPPED = 130
