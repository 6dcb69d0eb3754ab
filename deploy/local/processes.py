"""Background processes that later commands find and stop by their records.

    python -m deploy.local.processes FOLDER PID

waits for the end of process PID, then stops the processes recorded in FOLDER. Tests and benchmarks
may be killed, and even then leave no process behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

_POLL_SECONDS = 0.1
GUARD = "guard"
_GUARD_SECONDS = 1.0
_STOP_SECONDS = 10.0
# Two processes with the same pid differ in their start time by at least this.
_SAME_MOMENT_SECONDS = 0.1
_FIRST_PORT = 10_240
_MAX_TRIES = 1000


class Record(NamedTuple):
    """A started process: its pid and its start time, because the system reuses pids."""

    name: str
    pid: int
    began: float


class Processes:
    """Starts named processes, each as a session leader, and stops them with all their children.

    Their pids are in `FOLDER/run`, so that a later command can stop them. Their output is in
    `FOLDER/logs`.
    """

    def __init__(self, folder: Path) -> None:
        """Attach to the processes recorded in a folder."""
        self._folder = folder
        self._records = folder / "run"
        self.logs = folder / "logs"
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]
    ) -> Record:
        """Start a process that survives the terminal and this process."""
        self._records.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[process.pid] = process
        record = Record(name, process.pid, psutil.Process(process.pid).create_time())
        (self._records / f"{name}.json").write_text(json.dumps(record))
        return record

    def stop_with(self, pid: int) -> None:
        """Stop everything when another process ends, even if it is killed."""
        root = Path(__file__).parents[2]
        command = [sys.executable, "-m", "deploy.local.processes", str(self._folder), str(pid)]
        self.start(GUARD, command, cwd=root, env=os.environ)

    def recorded(self) -> dict[str, Record]:
        """Return the processes that were started and not stopped, by name, running or not."""
        records = (Record(*json.loads(p.read_text())) for p in sorted(self._records.glob("*.json")))
        return {record.name: record for record in records}

    def running(self) -> dict[str, Record]:
        """Return the started processes that still run."""
        return {name: record for name, record in self.recorded().items() if is_running(record)}

    def stop(self, names: Sequence[str]) -> None:
        """Terminate processes and their sessions; kill those that do not end."""
        records = self.recorded()
        chosen = [records[name] for name in names if name in records]
        members = [process for record in chosen for process in _session_of(record)]
        for record in chosen:
            if is_running(record):  # the leader first: it stops its own children in order
                _signal(record.pid, signal.SIGTERM)
            else:
                for process in _session_of(record):
                    _signal(process.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(members, timeout=_STOP_SECONDS)
        for process in alive:
            _signal(process.pid, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=_STOP_SECONDS)
        for record in chosen:
            child = self._children.pop(record.pid, None)
            if child is not None:
                child.wait()
            (self._records / f"{record.name}.json").unlink(missing_ok=True)

    def members(self, name: str) -> list[psutil.Process]:
        """Return the started process of a name, and its children."""
        record = self.recorded().get(name)
        return [] if record is None else _session_of(record)

    def tail(self, name: str, lines: int = 20) -> str:
        """Return the end of a process's output."""
        log = self.logs / f"{name}.log"
        return (
            "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
        )


def is_running(record: Record) -> bool:
    """Return whether this process still runs, and its pid has not been reused."""
    try:
        process = psutil.Process(record.pid)
        return (
            abs(process.create_time() - record.began) < _SAME_MOMENT_SECONDS
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.Error:
        return False


def _session_of(record: Record) -> list[psutil.Process]:
    """Return a process and its children, even if the process itself is dead.

    The system does not reuse the id of a session while one of its members lives.
    """
    if psutil.pid_exists(record.pid) and not is_running(record):
        status = psutil.Process(record.pid).status()
        if status != psutil.STATUS_ZOMBIE:  # the pid was reused, so all members are gone
            return []
    members = []
    for process in psutil.process_iter():
        try:
            zombie = process.status() == psutil.STATUS_ZOMBIE
            if os.getsid(process.pid) == record.pid and not zombie:
                members.append(process)
        except (OSError, psutil.Error):
            continue
    return members


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether a condition becomes true within the given seconds."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def is_listening(port: int) -> bool:
    """Return whether something accepts connections on a loopback port."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Return loopback ports that are free now.

    They lie below the range of outgoing connections. Otherwise such a connection could take a port
    before the program that needs it has started.
    """
    ports: list[int] = []
    last = _first_outgoing_port()
    if last < _FIRST_PORT + _MAX_TRIES:  # no ports are left below
        last = 65_536
    for port in random.sample(range(_FIRST_PORT, last), _MAX_TRIES):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(f"Expected {count} free ports of 127.0.0.1, got {len(ports)}")


def _first_outgoing_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:  # not on Linux
        return 32768


def main(argv: Sequence[str] | None = None) -> int:
    """Wait for the end of a process, then stop the processes recorded in a folder."""
    folder, pid = sys.argv[1:] if argv is None else argv
    while psutil.pid_exists(int(pid)):
        time.sleep(_GUARD_SECONDS)
    processes = Processes(Path(folder))
    processes.stop([name for name in processes.recorded() if name != GUARD])
    return 0


if __name__ == "__main__":
    sys.exit(main())
