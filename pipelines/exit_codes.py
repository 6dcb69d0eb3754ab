"""What commands end with, for whoever starts them."""

from __future__ import annotations

EXIT_OK = 0
# It failed, or something does not answer: another start goes on, and may do.
EXIT_FAILED = 1
# Options or input are wrong: a person must look.
EXIT_WRONG = 2
EXIT_DEAD_LETTERS = 3
EXIT_STOPPED = 130
