"""Give up a call that takes too long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class CallTimeout(RuntimeError):
    """A call took longer than it may."""


def call_within(
    seconds: float, call: Callable[[], Result], cancel: Callable[[], None] = lambda: None
) -> Result:
    """Return what a call gives, or stop waiting for it.

    The call runs in a thread of its own. Python cannot stop a thread: one that is given up is asked
    to end by `cancel`, and left alone if it does not. It never keeps the process from exiting.

    Raises:
      CallTimeout: it took longer than so many seconds.
      Exception: whatever the call raised.
    """
    ended: queue.SimpleQueue[tuple[Result | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put((call(), None))
        except BaseException as e:  # noqa: BLE001  it is raised where it is waited for
            ended.put((None, e))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = ended.get(timeout=seconds)
    except queue.Empty:
        cancel()
        raise CallTimeout(f"the call took longer than {seconds:g} s and was given up") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
