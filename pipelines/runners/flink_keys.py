"""Keys that Flink spreads evenly over tasks: its key groups, and the hash that assigns them."""

from __future__ import annotations

import itertools

import mmh3


def spread_keys(slots: int, max_parallelism: int) -> list[str]:
    """Return a key for each slot, so that Flink spreads them evenly over any number of tasks.

    Flink assigns keys to tasks by hash: two arbitrary keys end up on one of two tasks half the
    time. Each task has a range of key groups. So slot i gets a key whose key group is in the middle
    of the i-th part of all key groups.
    """
    keys = []
    for slot in range(slots):
        wanted = (2 * slot + 1) * max_parallelism // (2 * slots)
        names = (f"{slot}-{number}" for number in itertools.count())
        keys.append(next(key for key in names if key_group(key, max_parallelism) == wanted))
    return keys


def key_group(key: str, max_parallelism: int) -> int:
    """Return the key group of a key, as Flink's KeyGroupRangeAssignment and Beam's FlinkKey do."""
    encoded = key.encode()
    low, _ = mmh3.hash64(bytes([len(encoded)]) + encoded, x64arch=True, signed=False)
    return _mix(low & 0xFFFFFFFF) % max_parallelism


def _mix(code: int) -> int:
    """Return Flink's MathUtils.murmurHash of an unsigned int of 32 bits."""
    code = _multiply(code, 0xCC9E2D51)
    code = _rotate(code, 15)
    code = _multiply(code, 0x1B873593)
    code = _rotate(code, 13)
    code = (_multiply(code, 5) + 0xE6546B64) & 0xFFFFFFFF
    code ^= 4
    code ^= code >> 16
    code = _multiply(code, 0x85EBCA6B)
    code ^= code >> 13
    code = _multiply(code, 0xC2B2AE35)
    code ^= code >> 16
    if code < 0x80000000:
        return code
    return 0 if code == 0x80000000 else 0x100000000 - code


def _multiply(a: int, b: int) -> int:
    return a * b & 0xFFFFFFFF


def _rotate(code: int, bits: int) -> int:
    return (code << bits | code >> (32 - bits)) & 0xFFFFFFFF
