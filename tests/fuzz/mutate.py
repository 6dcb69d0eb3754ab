"""Damages bytes as disks, networks and broken writers do."""

from __future__ import annotations

import random

_NASTY = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, *b'\n\r",\\{}[]:0-9eE')
KINDS = ("bit", "byte", "bytes", "cut", "drop", "insert", "repeat", "splice", "zero")


def mutate(data: bytes, chance: random.Random, kind: str, low: int = 0, high: int = -1) -> bytes:
    """Return bytes with one kind of damage that begins between two positions."""
    high = len(data) if high < 0 else high
    at = chance.randrange(low, max(low + 1, high))
    size = chance.choice((1, 2, 3, 4, 8, chance.randrange(1, 60)))
    damaged = bytearray(data)
    if kind == "bit":
        damaged[at] ^= 1 << chance.randrange(8)
    elif kind == "byte":
        damaged[at] = chance.choice((*_NASTY, chance.randrange(256)))
    elif kind == "bytes":
        for _ in range(chance.randrange(2, 6)):
            damaged[chance.randrange(low, max(low + 1, high))] = chance.choice(_NASTY)
    elif kind == "cut":
        del damaged[at:]
    elif kind == "drop":
        del damaged[at : at + size]
    elif kind == "insert":
        damaged[at:at] = bytes(chance.choice((*_NASTY, at & 255)) for _ in range(size))
    elif kind == "repeat":
        damaged[at:at] = damaged[at : at + size]
    elif kind == "splice":
        start = chance.randrange(len(data))
        part = data[start : start + size]
        damaged[at : at + len(part)] = part
    else:
        damaged[at : at + size] = bytes(size)
    return bytes(damaged)
