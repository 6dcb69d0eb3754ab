"""Errors of TensorFlow's C API."""

from __future__ import annotations

from scoreline.models.errors import first_lines

# TF_Code, in order
_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


class TensorFlowError(RuntimeError):
    """An error that TensorFlow returned: the name of its code, and its message.

    It is told as Python TensorFlow tells it, without the class: `message`.
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep the code, such as `INVALID_ARGUMENT`, and the message."""
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def description(self) -> str:
        """The error as dead letters quote it: under the name of its class in Python TensorFlow."""
        name = "".join(part.capitalize() for part in self.code.split("_"))
        return f"{name}Error: {first_lines(self)}"

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.code, self.message)


class LibraryError(RuntimeError):
    """TensorFlow's library is missing, or is not the one that this code was written for."""


def code_name(number: int) -> str:
    """Return the name of a TF_Code; an unknown number is returned as digits."""
    return _CODES[number] if 0 <= number < len(_CODES) else str(number)
