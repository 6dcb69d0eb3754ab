"""Options of a session and of its calls, as the protocol buffers ConfigProto and RunOptions.

Written by hand, because TensorFlow's classes for them are in its Python package. The numbers of
the fields cannot change; a test compares the bytes with those of TensorFlow's own classes.
"""

from __future__ import annotations

_VARINT, _BYTES = 0, 2
_OFF = 2  # RewriterConfig.Toggle


def session_config(
    *,
    threads_in_call: int | None = None,
    concurrent_calls: int | None = None,
    has_gpu: bool = False,
) -> bytes:
    """Return the ConfigProto of a session.

    Constant folding is off: the session's optimizer would fold across functions that it has
    inlined, which Python TensorFlow does not, and scores would differ in their last bits.

    Args:
      threads_in_call: threads within a call (intra-op); None leaves TensorFlow's own setting.
      concurrent_calls: threads that run calls (inter-op); None leaves TensorFlow's own setting.
        Both hold for the process: the first session decides.
      has_gpu: whether TensorFlow may look for a GPU. On a machine without one it would log an
        error about that.
    """
    config = b"" if has_gpu else _field(1, _field(1, b"GPU") + _field(2, 0))  # device_count
    if threads_in_call is not None:
        config += _field(2, threads_in_call)  # intra_op_parallelism_threads
    if concurrent_calls is not None:
        config += _field(5, concurrent_calls)  # inter_op_parallelism_threads
    rewriter = _field(3, _OFF)  # constant_folding
    return config + _field(10, _field(10, rewriter))  # graph_options.rewrite_options


def run_options(timeout_ms: int) -> bytes:
    """Return the RunOptions of calls that end with DEADLINE_EXCEEDED after a time.

    A loop of the graph ends then; a single op is not interrupted.
    """
    return _field(2, timeout_ms)  # timeout_in_ms


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return _varint(number << 3 | _BYTES) + _varint(len(value)) + value
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
