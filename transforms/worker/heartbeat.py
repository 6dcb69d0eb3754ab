"""A sign of life for who watches a job from outside: the time of a file, and systemd's watchdog."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

_EVERY_SECONDS = 1.0


class Heartbeat:
    """Says, at most once a second, that a loop has come round again.

    The file gets a new time of change. Under a unit with `WatchdogSec=` systemd is told as well, by
    its own protocol: it names a socket in the environment.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin; nothing is said yet. Without a path there is no file."""
        self._path = path
        self._clock = clock
        self._socket = os.environ.get("NOTIFY_SOCKET", "") if "WATCHDOG_USEC" in os.environ else ""
        self._said = float("-inf")

    def beat(self) -> None:
        """Say so, unless it was said within the last second.

        Raises:
          OSError: the file or systemd's socket cannot be written.
        """
        now = self._clock()
        if now - self._said < _EVERY_SECONDS:
            return
        self._said = now
        if self._path:
            Path(self._path).touch()
        if self._socket:
            # A name that begins with @ is one outside the file system.
            at = "\0" + self._socket[1:] if self._socket.startswith("@") else self._socket
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"WATCHDOG=1", at)
