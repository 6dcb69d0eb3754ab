"""Problems with options and input, gathered so that all are reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_WRONG


class Passing(str):
    """A sentence about what may be gone at the next attempt: something does not answer."""


def as_problem(error: Exception, told_of: str) -> str:
    """Return a sentence on an error and what it is about; `Passing` if it may be gone next time."""
    from scoreline.lake.storage import may_pass

    sentence = f"{told_of}: {error}"
    return Passing(sentence) if may_pass(error) else sentence


class BadOptions(ValueError):
    """Options or input that cannot be scored; `problems` holds every sentence about them."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Keep the problems, without repetitions, in order."""
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))

    @property
    def exit_code(self) -> int:
        """What a command ends with: who starts it again may do so after 1, and not after 2."""
        is_passing = all(isinstance(problem, Passing) for problem in self.problems)
        return EXIT_FAILED if is_passing else EXIT_WRONG


class Problems:
    """Everything that is wrong with a command line and with what it names, in the order found.

    One collector goes from the first option to the last step of the plan. A step that finds
    something wrong adds a sentence and goes on; a step whose input is missing because of it does
    nothing. So one attempt tells all.
    """

    def __init__(self, sentences: Iterable[str] = ()) -> None:
        """Begin with what is known to be wrong already."""
        self._sentences: dict[str, None] = dict.fromkeys(sentences)
        self._is_usage = False

    def add(self, sentence: str) -> None:
        """Add a sentence, unless it is there already."""
        self._sentences[sentence] = None

    def add_all(self, sentences: Iterable[str]) -> None:
        """Add several sentences."""
        for sentence in sentences:
            self.add(sentence)

    def add_error(self, error: Exception, told_of: str) -> None:
        """Add a sentence on an error and what it is about."""
        self.add(as_problem(error, told_of))

    def add_usage(self, sentence: str) -> None:
        """Add a sentence on a flag that is missing, unknown or another command's.

        What the user wants is not known then: nothing beyond the command line is looked at.
        """
        self.add(sentence)
        self._is_usage = True

    def check(self) -> None:
        """Raise `BadOptions` if anything is wrong."""
        if self._sentences:
            raise BadOptions(self._sentences)

    def check_usage(self) -> None:
        """Raise `BadOptions` if it is not clear what is wanted."""
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
        """All sentences, in order."""
        return tuple(self._sentences)
