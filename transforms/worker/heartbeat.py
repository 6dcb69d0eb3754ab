"""A heartbeat for supervisors: the time of a file, and systemd's watchdog."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

_EVERY_SECONDS = 1.0


class Heartbeat:
    """Reports, at most once a second, that a loop is alive.

    It updates the modification time of the file. In a unit with `WatchdogSec=` it also notifies
    systemd, through the socket in the environment.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Set the path of the file; "" for no file."""
        self._path = path
        self._clock = clock
        self._socket = os.environ.get("NOTIFY_SOCKET", "") if "WATCHDOG_USEC" in os.environ else ""
        self._said = float("-inf")

    def beat(self) -> None:
        """Report, unless the last report was within a second.

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
            # A name that starts with @ is an abstract socket, outside the file system.
            at = "\0" + self._socket[1:] if self._socket.startswith("@") else self._socket
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"WATCHDOG=1", at)
