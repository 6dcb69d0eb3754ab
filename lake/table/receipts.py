"""Receipts on disk: proof that a shard was staged completely, so that a rerun can skip it.

A receipt is written after its file has its final name, and removed when the partition is committed.
It is valid only if the file has the size and the checksum in the receipt.
"""

from __future__ import annotations

import json

import google_crc32c
from pyarrow import fs

from scoreline.lake.elements import Receipt, Shard
from scoreline.lake.kill_points import reach
from scoreline.lake.storage import read_checksum, remove_folder, resolve, write_whole
from scoreline.lake.table.layout import (
    STAGED_FOLDER,
    dead_letters_root,
    partition_folder,
    receipts_folder,
    staged_name,
)

# Fields of a receipt; the others come from the shard.
_FIELDS = (
    "path",
    "size_bytes",
    "checksum",
    "stats",
    "rows_in",
    "rows_scored",
    "rows_dead",
    "keys_increase",
    "first_key",
    "last_key",
)


def write_receipt(output: str, receipt: Receipt) -> None:
    """Write a receipt of a staged file, of scores or of dead letters. It appears atomically.

    Raises:
      OSError: it cannot be written.
    """
    reach("staged")
    file_system, root = resolve(output)
    held = {name: getattr(receipt, name) for name in _FIELDS}
    body = json.dumps({**held, "shards": receipt.shards}).encode()
    name = _name(receipt.shard, dead=receipt.rows_dead > 0)
    checksum = f"{google_crc32c.value(body):08x}\n".encode()
    write_whole(file_system, f"{receipts_folder(root)}/{receipt.run_id}/{name}", checksum + body)


def find_receipts(output: str, shard: Shard) -> list[Receipt]:
    """Return the receipts of a shard that seems to be staged completely; otherwise none.

    Both scores and dead letters need a receipt. Damaged receipts, and those of other work, do not
    count. No folder is listed, because the names are known: a shard that is not staged costs one
    failed read. No staged file is read: see `is_staged`.
    """
    file_system, root = resolve(output)
    folder = f"{receipts_folder(root)}/{shard.run_id}"
    scores = _read(file_system, f"{folder}/{_name(shard.number)}", shard)
    if scores is None or scores.rows_dead:
        return []
    if scores.rows_in == scores.rows_scored:
        return [scores]
    dead = _read(file_system, f"{folder}/{_name(shard.number, dead=True)}", shard)
    if dead is None or scores.rows_in != scores.rows_scored + dead.rows_dead:
        return []
    return [scores, dead]


def _name(shard: int, *, dead: bool = False) -> str:
    return f"{shard:05d}-{'dead' if dead else 'scores'}.json"


def _read(file_system: fs.FileSystem, path: str, shard: Shard) -> Receipt | None:
    try:
        with file_system.open_input_file(path) as source:
            checksum, _, body = source.read().partition(b"\n")
        if f"{google_crc32c.value(body):08x}".encode() != checksum:
            return None
        held = json.loads(body)
        receipt = Receipt.of(shard, **{name: held[name] for name in _FIELDS})
    except (OSError, ValueError, KeyError):
        return None
    folder = STAGED_FOLDER if receipt.rows_dead else partition_folder(shard.partition)
    # The path is computed, not read from the receipt, so it cannot point outside the table.
    path = staged_name(folder, shard.number, shard.run_id, receipt.checksum)
    return receipt if held.get("shards") == shard.shards and receipt.path == path else None


def is_staged(output: str, receipt: Receipt) -> bool:
    """Return whether a receipt's file exists with its size and checksum. Reads the whole file."""
    file_system, root = resolve(dead_letters_root(output) if receipt.rows_dead else output)
    try:
        found = read_checksum(file_system, f"{root}/{receipt.path}")
    except OSError:
        return False
    return found == (receipt.size_bytes, receipt.checksum)


def remove_receipts(output: str, run_id: str) -> None:
    """Remove the receipts of a run id. Idempotent."""
    file_system, root = resolve(output)
    remove_folder(file_system, f"{receipts_folder(root)}/{run_id}")
