"""Measure the costs that grow with files, shards and partitions, and estimate a cluster's limits.

    python -m benchmarks.scaling

Lists and plans 100,000 small Parquet files on disk (hard links) with the functions of a real run.
Encodes the shards as a cluster gets them, and finds the receipts of a killed run. Commits one
partition of 100,000 files, and partitions of 10 files to tables of growing size. No row is scored:
the cost of a row comes from `benchmarks.batch`. Writes build/bench/scaling.md, which
docs/scaling.md explains.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam import coders
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction, RemoveAction

from scoreline.lake.elements import Piece, Receipt, Shard
from scoreline.lake.files.dataset import list_dataset
from scoreline.lake.files.formats import describe_files
from scoreline.lake.files.partitions import run_id_of
from scoreline.lake.files.shards import plan_shards
from scoreline.lake.storage import resolve
from scoreline.lake.table.actions import add_action, application_of
from scoreline.lake.table.commit import CommitSpec, commit_partitions
from scoreline.lake.table.receipts import find_receipts, write_receipt
from scoreline.lake.table.scores import committed_runs, create_table, open_table
from scoreline.pipelines.report.progress import StagedShards

_FOLDER = Path("build") / "bench" / "scaling"
_FILES_IN_PARTITION = 10
_TOGETHER = 64
_COMMITS = 5
# ext4 allows at most 65,000 hard links to one file.
_LINKS = 20_000
_FLOATS = 20
_SCHEMA = pa.schema([("id", pa.int64()), ("score", pa.float32())])
_STATS = '{"numRecords":524288,"minValues":{"id":1},"maxValues":{"id":2},"nullCount":{"id":0}}'


class Line(NamedTuple):
    """One measurement: the operation, its number of items, and its cost."""

    what: str
    number: int
    wall_s: float
    cpu_s: float
    note: str = ""

    def __str__(self) -> str:
        each = self.wall_s / self.number * 1e3
        return (
            f"| {self.what} | {self.number:,} | {self.wall_s:.2f} | {self.cpu_s:.2f} | {each:.3g} "
            f"| {self.note} |"
        )


class _Lines(list[Line]):
    @contextmanager
    def measure(self, what: str, count: int) -> Iterator[list[str]]:
        """Add a line for the with block. The block may append a note to the list that it gets."""
        sys.stderr.write(f"{what} … ")
        sys.stderr.flush()
        notes: list[str] = []
        wall, cpu = time.perf_counter(), time.process_time()
        yield notes
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.append(Line(what, count, wall, cpu, ", ".join(notes)))
        sys.stderr.write(f"{wall:.1f} s\n")


def make_lake(folder: Path, files: int, files_in_partition: int) -> Path:
    """Return a lake of equal files of 100 rows and 22 columns, made of hard links."""
    lake = folder / f"lake-{files}-{files_in_partition}"
    if lake.exists():
        return lake
    partial = folder / f".{lake.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    rng = np.random.default_rng(0)
    columns = {f"x{i}": rng.random(100, dtype=np.float32) for i in range(_FLOATS)}
    table = pa.table({"id": np.arange(100), **columns, "s": ["a", "b"] * 50})
    source = partial / "_source"
    source.mkdir()
    for number in range(files):
        if number % _LINKS == 0:
            original = source / f"{number}.parquet"
            pq.write_table(table, original)
        partition = partial / f"date={number // files_in_partition:06d}"
        if number % files_in_partition == 0:
            partition.mkdir()
        os.link(original, partition / f"{number:06d}.parquet")
    partial.rename(lake)
    return lake


def measure_planning(lines: _Lines, lake: Path, what: str) -> list[Shard]:
    """Run the planning of a job on a lake, and return its shards."""
    file_system, _ = resolve(str(lake))
    count = sum(len(names) for _, _, names in os.walk(lake / "date=000000")) * len(
        list(lake.glob("date=*"))
    )
    with lines.measure(f"list files, {what}", count):
        listing = list_dataset(str(lake), ())
    partitions = listing.partitions
    before = psutil.Process().memory_info().rss
    with lines.measure(f"read footers, {what}", count) as notes:
        files = [file for p in partitions for file in p.files]
        footers = iter(list(describe_files(file_system, listing.format, files, None)))
        notes.append(f"{(psutil.Process().memory_info().rss - before) / 1e6:,.0f} MB")
    with lines.measure(f"cut to shards, {what}", count) as notes:
        shards = [
            shard
            for p in partitions
            for shard in plan_shards(
                p, [next(footers) for _ in p.files], run_id_of(p, {"model": "m"}), ""
            )
        ]
        notes.append(f"{len(shards):,} shards")
    return shards


def measure_shards(lines: _Lines, output: str, count: int) -> None:
    """Encode shards as a cluster gets them, and find their receipts as after a kill."""
    shards = [
        Shard(f"date={n // 10}", f"{n // 10:015x}", "", n % 10, 10, [_piece(n)], 524_288)
        for n in range(count)
    ]
    coder = coders.registry.get_coder(Shard)
    with lines.measure("encode shards", count) as notes:
        size = sum(len(coder.encode(shard)) for shard in shards)
        notes.append(f"{size / count:.0f} B each, {size / 1e6:.1f} MB in the job graph")
    receipts = [_receipt(s.partition, s.run_id, s.number, s.shards) for s in shards]
    encoder = coders.registry.get_coder(Receipt)
    with lines.measure("encode receipts", count) as notes:
        size = sum(len(encoder.encode(receipt)) for receipt in receipts)
        notes.append(f"{size / count:.0f} B each")
    with lines.measure("write receipts", count):
        for receipt in receipts:
            write_receipt(output, receipt)
    for name, folder in (("a killed", output), ("a fresh", f"{output}_fresh")):
        with lines.measure(f"look for receipts of {name} run", count) as notes:
            found = sum(bool(find_receipts(folder, shard)) for shard in shards)
            notes.append(f"{found:,} found")
    with lines.measure("look once for progress", count // 10) as notes:
        StagedShards(shards, output).count()
        notes.append("folders")


def _piece(number: int) -> Piece:
    return Piece(f"/lake/events/date={number // 10}/part-{number:05d}.parquet", 0, 4, 0, 524_288)


def _receipt(partition: str, run_id: str, number: int, shards: int) -> Receipt:
    path = f"{partition}/part-{number:05d}-{run_id}-00000000.parquet"
    counts: dict[str, Any] = {"rows_in": 524_288, "rows_scored": 524_288, "size_bytes": 1 << 23}
    return Receipt(
        partition,
        run_id,
        "",
        number,
        shards,
        path,
        checksum="0" * 8,
        stats=_STATS,
        keys_increase=True,
        first_key=2 * number,
        last_key=2 * number + 1,
        **counts,
    )


def measure_commits(lines: _Lines, folder: Path, files: int) -> None:
    """Commit one partition of very many files, then small partitions to tables of growing size."""
    output = str(folder / "one")
    _commit(lines, output, "date=1", files, "commit files of one partition")
    log = sum(p.stat().st_size for p in Path(output, "_delta_log").iterdir())
    lines[-1] = lines[-1]._replace(note=f"log {log / files:.0f} B per file")
    for held in (files // 100, files // 10, files):
        output = str(folder / f"held-{held}")
        create_table(output, _SCHEMA, ["date"])
        _fill(output, held)
        table = open_table(output)
        with lines.measure(f"commit a partition to a table of {held:,} files", _COMMITS):
            for number in range(_COMMITS):
                _commit_one(output, f"date=new{number}", _FILES_IN_PARTITION, table)
        with lines.measure(f"commit partitions together to a table of {held:,} files", _TOGETHER):
            new = [f"date=together{number}" for number in range(_TOGETHER)]
            _commit_all(output, new, _FILES_IN_PARTITION, table)
    with lines.measure(f"open a table of {files:,} files", 1):
        table = open_table(output)
    if table is None:
        raise RuntimeError(f"Expected a table, got nothing at {output}")
    with lines.measure("read the run id of each partition", held // _FILES_IN_PARTITION):
        committed_runs(table, [f"date={n}" for n in range(held // _FILES_IN_PARTITION)])


def _commit(lines: _Lines, output: str, partition: str, files: int, what: str) -> None:
    create_table(output, _SCHEMA, ["date"])
    table = open_table(output)
    with lines.measure(what, files):
        _commit_one(output, partition, files, table)


def _commit_one(output: str, partition: str, files: int, table: DeltaTable | None) -> None:
    _commit_all(output, [partition], files, table)


def _commit_all(
    output: str, partitions: Sequence[str], files: int, table: DeltaTable | None
) -> None:
    run_id = "1" * 15
    receipts = [
        [_receipt(partition, run_id, number, files) for number in range(files)]
        for partition in partitions
    ]
    metadata = {"model_digest": "sha256:1", "job_id": "job"}
    spec = CommitSpec(output, ["date"], ["id"], metadata, dict.fromkeys(partitions, "f" * 16), 0.01)
    for outcome in commit_partitions(receipts, spec, table):
        if outcome.state != "committed":
            raise RuntimeError(f"Expected a commit, got {outcome}")


def _fill(output: str, files: int) -> None:
    """Fill a table with committed partitions of `held` files, in one transaction."""
    table = DeltaTable(output)
    actions: list[AddAction | RemoveAction] = []
    tokens = []
    for number in range(files):
        value, part = divmod(number, _FILES_IN_PARTITION)
        path = f"date={value}/part-{part:05d}-{value:015x}-00000000.parquet"
        actions.append(add_action(path, 1 << 23, _STATS, [("date", str(value))]))
        if part == 0:
            tokens.append(Transaction(application_of(f"date={value}"), value))
    table.create_write_transaction(
        actions,
        mode="append",
        schema=table.schema(),
        partition_by=["date"],
        commit_properties=CommitProperties(app_transactions=tokens),
    )


_HEAD = "| what | number | s | CPU s | ms each | |\n|---|--:|--:|--:|--:|---|"
_HOURS, _BUSY = 6, 0.7


def plan_cluster(rows: int, cpu_us_per_row: Sequence[float], load_s: float) -> str:
    """Return a table of the slots that score that many rows in a night, by the cost of a row."""
    lines = [
        f"| CPU µs per row | CPU hours for {rows:,} rows | slots for {_HOURS} hours, {_BUSY:.0%} "
        "busy | loading models, CPU s |",
        "|--:|--:|--:|--:|",
    ]
    for cost in cpu_us_per_row:
        seconds = rows * cost / 1e6
        slots = max(1, -int(-seconds // (_HOURS * 3600 * _BUSY)))
        lines.append(f"| {cost:g} | {seconds / 3600:,.1f} | {slots} | {slots * load_s:,.0f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=1_000_000_000, help="rows of a night")
    parser.add_argument("--cpu_us_per_row", default="1.3,8,100,1000", help="of models, with commas")
    args = parser.parse_args(argv)
    if args.files < 1000 or args.shards < 10 or args.rows < 1:
        parser.error("expected at least 1000 files, 10 shards and one row")
    costs = [float(text) for text in args.cpu_us_per_row.split(",")]
    work = _FOLDER / "tables"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    lines = _Lines()
    one = make_lake(_FOLDER, args.files, args.files)
    many = make_lake(_FOLDER, args.files, _FILES_IN_PARTITION)
    measure_planning(lines, one, "one partition")
    measure_planning(lines, many, f"{_FILES_IN_PARTITION} per partition")
    measure_shards(lines, str(work / "staged"), args.shards)
    measure_commits(lines, work, args.files)
    text = "\n".join([_HEAD, *map(str, lines), "", plan_cluster(args.rows, costs, 16.0), ""])
    (_FOLDER.parent / "scaling.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
