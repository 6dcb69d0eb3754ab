"""Problems of options and input, collected so that all are reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_WRONG


class Passing(str):
    """A transient problem: a server does not answer, and the next attempt may succeed."""


def as_problem(error: Exception, prefix: str) -> str:
    """Return the problem for an error, with a prefix; `Passing` if it is transient."""
    from scoreline.lake.storage import may_pass

    sentence = f"{prefix}: {error}"
    return Passing(sentence) if may_pass(error) else sentence


class BadOptions(ValueError):
    """Options or input are wrong; `problems` has all problems, one sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Store the problems in order, without duplicates.

        Raises:
          RuntimeError: there is none. The command would end without a word.
        """
        self.problems = list(dict.fromkeys(problems))
        if not self.problems:
            raise RuntimeError("expected a reason why the command cannot go on, got none")
        super().__init__("\n".join(self.problems))

    @property
    def exit_code(self) -> int:
        """The exit code of the command: a restart may help after 1, not after 2."""
        is_passing = all(isinstance(problem, Passing) for problem in self.problems)
        return EXIT_FAILED if is_passing else EXIT_WRONG


class Problems:
    """Collects all problems of a command line and of its data, in the order they are found.

    One collector is used from the first option to the last step of the plan. A step adds its
    problems and continues. A step without its input, because of an earlier problem, does nothing.
    So one attempt reports all problems.
    """

    def __init__(self, sentences: Iterable[str] = ()) -> None:
        """Start with the problems so far."""
        self._sentences: dict[str, None] = dict.fromkeys(sentences)
        self._is_usage = False

    def add(self, sentence: str) -> None:
        """Add a problem, unless it is a duplicate."""
        self._sentences[sentence] = None

    def add_all(self, sentences: Iterable[str]) -> None:
        """Add several problems."""
        for sentence in sentences:
            self.add(sentence)

    def add_error(self, error: Exception, prefix: str) -> None:
        """Add the problem for an error, with a prefix."""
        self.add(as_problem(error, prefix))

    def add_usage(self, sentence: str) -> None:
        """Add a problem of a missing or unknown flag, or a flag of another command.

        Then only the command line is checked, because the user's intent is unknown.
        """
        self.add(sentence)
        self._is_usage = True

    def check(self) -> None:
        """Raise `BadOptions` if there are problems."""
        if self._sentences:
            raise BadOptions(self._sentences)

    def check_usage(self) -> None:
        """Raise `BadOptions` if there are problems of usage."""
        if self._is_usage:
            self.check()

    def __bool__(self) -> bool:
        return bool(self._sentences)

    def __len__(self) -> int:
        return len(self._sentences)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._sentences))

    @property
    def sentences(self) -> Sequence[str]:
        """All problems, in order."""
        return tuple(self._sentences)
