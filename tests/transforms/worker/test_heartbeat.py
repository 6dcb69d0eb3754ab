from __future__ import annotations

import os
import socket

import pytest

from scoreline.transforms.worker.heartbeat import Heartbeat


def test_a_file_is_touched_at_most_once_a_second(tmp_path):
    now = 100.0
    file = tmp_path / "heartbeat"
    heartbeat = Heartbeat(str(file), lambda: now)
    assert not file.exists()
    heartbeat.beat()
    os.utime(file, (1, 1))
    heartbeat.beat()
    assert file.stat().st_mtime == 1
    now = 101.0
    heartbeat.beat()
    assert file.stat().st_mtime > 1


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_is_notified_if_it_asks_for_it(tmp_path, monkeypatch, kind):
    name = str(tmp_path / "notify") if kind == "path" else f"@scoreline-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name if kind == "path" else "\0" + name[1:])
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        Heartbeat("").beat()  # a unit without WatchdogSec=
        monkeypatch.setenv("WATCHDOG_USEC", "300000000")
        Heartbeat("").beat()
        assert systemd.recv(100) == b"WATCHDOG=1"
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
