"""Problems with options and input, gathered so that all are reported at once."""

from __future__ import annotations

from collections.abc import Sequence

from scoreline.lake.storage import may_pass
from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_WRONG


class Passing(str):
    """A sentence about what may be gone at the next attempt: something does not answer."""


def as_problem(error: Exception, told_of: str) -> str:
    """Return a sentence on an error and what it is about; `Passing` if it may be gone next time."""
    sentence = f"{told_of}: {error}"
    return Passing(sentence) if may_pass(error) else sentence


class BadOptions(ValueError):
    """Options or input that cannot be scored; `problems` holds every sentence about them."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep the problems, without repetitions, in order."""
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))

    @property
    def exit_code(self) -> int:
        """What a command ends with: who starts it again may do so after 1, and not after 2."""
        is_passing = all(isinstance(problem, Passing) for problem in self.problems)
        return EXIT_FAILED if is_passing else EXIT_WRONG
