"""The exit codes of commands."""

from __future__ import annotations

EXIT_OK = 0
# It failed, or a server does not answer: a restart continues, and may succeed.
EXIT_FAILED = 1
# Options or input are wrong: a user must correct them.
EXIT_WRONG = 2
EXIT_DEAD_LETTERS = 3
# Of a load test: a limit does not hold, or that is undecided.
EXIT_SLO_NOT_MET = 4
# Of a load test: the measurement is invalid, so there is no verdict.
EXIT_INVALID = 5
EXIT_STOPPED = 130
