"""Log lines of librdkafka: only useful ones, at most once a minute each, in our words."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

# Warnings that a user can act on. The others concern attempts that librdkafka repeats.
_FACILITIES_KEPT = ("CONFWARN", "MAXPOLL")
# The call that fails raises the same, and refused records are sent again in another transaction.
_FACILITIES_REPORTED = ("TXNERR",)
# Every client reads the same file, so that each setting of one kind of client is logged by others.
_OF_OTHER_CLIENT = re.compile(
    r"is a (?:producer|consumer) property and will be ignored by this (?:consumer|producer) "
    r"instance"
)
_REPEAT_SECONDS = 60.0
_MAX_REMEMBERED = 1000
# The thread at the start, and time and count at the end, differ between equal lines.
_VARYING = re.compile(r"^\[thrd:[^\]]*\]: (?:[^ ]*/[^ ]*: )?|\s*\(after [^)]*\)\s*$")


class ClientLog(logging.Filter):
    """Passes useful lines, and adds the next action of the client."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Set a clock that returns seconds."""
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a line of `confluent_kafka`; this also rewrites its message."""
        if not isinstance(record.args, tuple) or len(record.args) != 3:
            return True
        facility, _, line = map(str, record.args)
        if record.levelno < logging.ERROR and facility not in _FACILITIES_KEPT:
            return False
        if facility in _FACILITIES_REPORTED:
            return False
        text = _VARYING.sub("", line)
        if _OF_OTHER_CLIENT.search(text) or not self._is_due(text):
            return False
        passes = record.levelno == logging.ERROR
        record.msg = "Kafka client: %s" + ("; it retries until it succeeds" if passes else "")
        record.args = (text,)
        return True

    def _is_due(self, text: str) -> bool:
        """Return whether a line has not been logged within the last minute."""
        now = self._clock()
        with self._lock:
            if now - self._last.get(text, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
                return False
            if len(self._last) >= _MAX_REMEMBERED:
                self._last.clear()
            self._last[text] = now
        return True


CLIENT_LOG = logging.getLogger("scoreline.kafka")
CLIENT_LOG.addFilter(ClientLog())
