"""Run a model in a process of its own: a call that hangs or crashes costs that process alone.

    model = ModelProcess("build/models/flights", "serving_default", batch_timeout_s=60)
    scores = model.predict({"carrier": pa.array(["UA"]), …}, rows=1)

A loop in a SavedModel is ended in time. Nothing can interrupt a single op from outside, a fatal
signal in it kills the whole process, and the kernel can end a process at any moment. Columns cross
a socket as Arrow IPC streams and everything else as JSON. Nothing is pickled, so neither side can
make the other run code. The process is started, never forked: threads of TensorFlow and Arrow do
not survive a fork. Its standard input is a pipe from this process. When this process ends, in
whatever way, the pipe closes and the model's process ends too.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from scoreline.models.cpu_time import forget_model_process, note_model_process
from scoreline.models.errors import ModelError, describe_error
from scoreline.models.hiding import keep_pandas_out
from scoreline.models.runtimes.deadline import is_late, limit_calls
from scoreline.models.runtimes.model import Runtime
from scoreline.models.servable import Servable, empty_outputs, load_servable
from scoreline.models.signature import InputColumn, Signature, TensorSpec

# Minimum time for loading and the first calls, which may compile the model.
_MIN_LOAD_S = 600.0
_EXIT_S = 10.0
# A call that can end by itself does so this much before it is given up: a share, at most so long.
_EARLY_SHARE, _MAX_EARLY_S = 0.1, 1.0
# Calls after which the kernel killed the process for its memory are halved, down to this size: one
# row that takes all memory by itself must not slow down all others.
_MIN_CALL_ROWS = 1024
_TOO_LATE = "no answer within {:g} s (--batch_timeout_s)"
_HEAD = struct.Struct("<QQ")  # bytes of JSON, bytes of Arrow IPC


class ProcessLost(RuntimeError):
    """The model's process hung or crashed in a call. The next call starts another process."""


class CallHung(ProcessLost):
    """A call that exceeded its time limit."""


class ModelDied(ProcessLost):
    """A call in which the model's process died."""


class CallFailed(RuntimeError):
    """An error that the model raised in its process; the message begins with the error's class."""

    def __init__(self, description: str) -> None:
        """Keep the description, which is what dead letters quote."""
        super().__init__(description)
        self.description = description


class CallRows:
    """The rows per call that the process used for its last answer."""

    rows = 0


class ModelProcess:
    """A model in a process of its own, with the interface of `Servable`; one call at a time.

    Attributes:
      signature, digest, runtime, load_ms: as in `Servable`.
      call_size: the number of rows per call.
    """

    def __init__(
        self, path: str, signature_name: str, *, batch_timeout_s: float | None, **options: Any
    ) -> None:
        """Start the process, load the model in it and warm it up.

        Args:
          path: the model.
          signature_name: the signature's key.
          batch_timeout_s: maximum seconds of one `predict`; None for no limit.
          **options: those of `load_servable`, JSON values only.

        Raises:
          ModelError: the model does not load or answer.
        """
        self._load = {"path": path, "signature_name": signature_name, **options}
        self._timeout_s = batch_timeout_s
        self.call_size = CallRows()
        self._child: _Child | None = None
        self._lock = threading.Lock()
        self._start()

    def predict(
        self,
        features: Mapping[str, pa.Array],
        rows: int,
        outputs: Sequence[str] | None = None,
        *,
        sources: Sequence[InputColumn] = (),
        conversions: Mapping[str, str] | None = None,
    ) -> dict[str, pa.Array]:
        """Do the same as `Servable.predict`.

        Raises:
          CallHung: no answer arrived in time.
          ModelDied: the process ended, by a signal for example.
          CallFailed: the model raised an error.
          ModelError: the process was lost earlier, and the model cannot be loaded again.
        """
        if not rows:
            return empty_outputs(self.signature, outputs, conversions)
        request = {
            "rows": rows,
            "outputs": outputs,
            "sources": _encode(tuple(sources)),
            "conversions": conversions,
            "limit_s": _shorten(self._timeout_s),
        }
        with self._lock:
            return self._call(request, features, rows)

    def _call(
        self, request: Mapping[str, Any], features: Mapping[str, pa.Array], rows: int
    ) -> dict[str, pa.Array]:
        child = self._child or self._start()
        try:
            child.send(request, features, self._timeout_s)
            reply, columns = child.receive(self._timeout_s)
        except TimeoutError:
            self.close()
            told = f"{_TOO_LATE.format(self._timeout_s)}; the model's process was ended"
            raise CallHung(told) from None
        except (OSError, EOFError):
            ended = child.describe_end()
            if child.was_killed():
                self._halve_calls(rows)
            self.close()
            raise ModelDied(f"the model's process {ended}") from None
        except BaseException:  # an unread answer must not become the answer of the next call
            self.close()
            raise
        if "late" in reply:
            raise CallHung(f"{_TOO_LATE.format(self._timeout_s)}; the call was ended")
        if "error" in reply:
            raise CallFailed(reply["error"])
        self.call_size.rows = reply["call_rows"]
        return columns

    def _halve_calls(self, rows: int) -> None:
        """Halve the rows per call of the next process, because the kernel killed this one."""
        half = min(rows, self.call_size.rows) // 2
        if half >= _MIN_CALL_ROWS:
            self._load["batch_rows"] = half

    def close(self) -> None:
        """End the process; another call would start a new one."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _start(self) -> _Child:
        child = _Child()
        load_s = max(_MIN_LOAD_S, self._timeout_s or 0.0)
        try:
            child.send(self._load, {}, load_s)
            reply, _ = child.receive(load_s)
        except TimeoutError:
            child.end()
            raise ModelError(
                f"Model {self._load['path']} does not load and answer a call of a few rows of "
                f"zeros and empty strings within {load_s:g} s. A longer --batch_timeout_s gives it "
                "as long"
            ) from None
        except (OSError, EOFError):
            ended = child.describe_end()
            child.end()
            raise ModelError(
                f"Model {self._load['path']} crashed: its process {ended} while it was loaded and "
                "called for the first time"
            ) from None
        if "refused" in reply:
            child.end()
            raise ModelError(reply["refused"])
        self.signature = Signature.from_json(reply["signature"])
        self.digest: str = reply["digest"]
        self.runtime = Runtime(*reply["runtime"])
        self.load_ms: int = reply["load_ms"]
        self.call_size.rows = reply["call_rows"]
        self._child = child
        return child


class _Channel:
    """Messages over a socket: each is a JSON object, with columns beside it."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def send(
        self, message: Mapping[str, Any], columns: Mapping[str, pa.Array], timeout_s: float | None
    ) -> None:
        head = json.dumps(message).encode()
        body = _to_ipc(columns) if columns else b""
        self._socket.settimeout(timeout_s)
        self._socket.sendall(_HEAD.pack(len(head), len(body)) + head)
        self._socket.sendall(body)

    def receive(self, timeout_s: float | None) -> tuple[dict[str, Any], dict[str, pa.Array]]:
        """Return the next message.

        Raises:
          EOFError: the other side has closed the socket.
          TimeoutError: the whole message did not arrive in time.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        head_bytes, body_bytes = _HEAD.unpack(self._read(_HEAD.size, until))
        message = json.loads(self._read(head_bytes, until).to_pybytes())
        return message, _from_ipc(self._read(body_bytes, until)) if body_bytes else {}

    def _read(self, count: int, until: float | None) -> pa.Buffer:
        buffer = pa.allocate_buffer(count)
        view, have = memoryview(buffer).cast("B"), 0
        while have < count:
            # After the deadline, data that is already there is still read.
            left = None if until is None else max(until - time.monotonic(), 1e-6)
            self._socket.settimeout(left)
            received = self._socket.recv_into(view[have:])
            if not received:
                raise EOFError
            have += received
        return buffer


class _Child(_Channel):
    """The parent's handle of the process, which ends when the handle is garbage collected."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scoreline.models.process", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
            )
        super().__init__(ours)
        note_model_process(self._process.pid)
        self.end = weakref.finalize(self, _end, self._process, ours)

    def describe_end(self) -> str:
        """Return how the process ended, once its socket is closed."""
        try:
            code = self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            return "closed its socket"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            name = f" ({signal.Signals(-code).name})"
        except ValueError:
            name = ""
        hint = ", as the kernel does when memory runs out" if code == -signal.SIGKILL else ""
        return f"died with signal {-code}{name}{hint}"

    def was_killed(self) -> bool:
        """Return whether the process was killed from outside, as by the kernel for its memory."""
        return self._process.returncode == -signal.SIGKILL


def _end(process: subprocess.Popen[bytes], end: socket.socket) -> None:
    end.close()
    process.kill()
    process.wait()
    forget_model_process(process.pid)
    if process.stdin is not None:
        process.stdin.close()


def _to_ipc(columns: Mapping[str, pa.Array]) -> pa.Buffer:
    batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _from_ipc(buffer: pa.Buffer) -> dict[str, pa.Array]:
    with pa.ipc.open_stream(buffer) as reader:
        batch = reader.read_next_batch()
    return dict(zip(batch.schema.names, batch.columns, strict=True))


@functools.lru_cache(maxsize=8)
def _encode(sources: tuple[InputColumn, ...]) -> str:
    """Return inputs as JSON; bytes are in base 64."""
    return json.dumps(sources, default=lambda data: {"base64": base64.b64encode(data).decode()})


@functools.lru_cache(maxsize=8)
def _decode(text: str) -> tuple[InputColumn, ...]:
    rows = json.loads(text, object_hook=lambda found: base64.b64decode(found["base64"]))
    return tuple(InputColumn(TensorSpec.of_json(tensor), *others) for tensor, *others in rows)


class _Request(NamedTuple):
    rows: int
    outputs: list[str] | None
    sources: str
    conversions: dict[str, str] | None
    limit_s: float | None


def _shorten(timeout_s: float | None) -> float | None:
    """Return when a call shall end by itself, so that its answer comes in time."""
    if timeout_s is None:
        return None
    return timeout_s - min(_EARLY_SHARE * timeout_s, _MAX_EARLY_S)


def _serve(channel: _Channel) -> None:
    """Load the model that the first message names, then answer calls until there are no more."""
    load, _ = channel.receive(None)
    try:
        servable = load_servable(**load)
    except (FileNotFoundError, ModelError) as e:
        channel.send({"refused": str(e)}, {}, None)
        return
    facts = {
        "signature": servable.signature.to_json(),
        "digest": servable.digest,
        "runtime": servable.runtime,
        "load_ms": servable.load_ms,
    }
    channel.send({**facts, "call_rows": servable.call_size.rows}, {}, None)
    while True:
        message, features = channel.receive(None)
        request = _Request(**message)
        with limit_calls(request.limit_s):
            _answer(channel, servable, request, features)


def _answer(
    channel: _Channel, servable: Servable, request: _Request, features: dict[str, pa.Array]
) -> None:
    try:
        columns = servable.predict(
            features,
            request.rows,
            request.outputs,
            sources=_decode(request.sources),
            conversions=request.conversions,
        )
    except Exception as e:  # noqa: BLE001  whatever the model raises is the caller's to judge
        late = {"late": True} if is_late(e) else {}
        channel.send({"error": describe_error(e), **late}, {}, None)
    else:
        channel.send({"call_rows": servable.call_size.rows}, columns, None)


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    """Be the model's process: `python -m scoreline.models.process SOCKET`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, and its end ends us
    keep_pandas_out()
    os.dup2(2, 1)  # a model's prints must not mix with the command's output
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with socket.socket(fileno=int(sys.argv[1])) as end:
        end.set_inheritable(False)
        with contextlib.suppress(EOFError, ConnectionError):  # the parent has closed the socket
            _serve(_Channel(end))
    sys.stdout.flush()
    os._exit(0)  # do not wait for threads that hang in a call


if __name__ == "__main__":
    main()
