"""Measure memory with large row groups, small row groups, and many files in a partition.

    python -m benchmarks.memory

scores the same flights in several layouts, each in its own process with one worker: 5 M rows in row
groups of 131,072 rows, 5 M rows in one row group, a tenth of the rows in one row group, and 10,000
tiny files. Model calls and batches have the same size in all layouts, so peak memory should be
equal. Also measures the time to list the 10,000 files and to plan a run over them. Writes
build/bench/memory.json and build/bench/memory.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.compare import Mismatch, check
from benchmarks.data import KEY, Workload, demo_workload, tile
from benchmarks.designs import SCORELINE, Case, command_of
from benchmarks.measure import RunFailed, Usage, measure
from scoreline.lake.files.dataset import list_dataset
from scoreline.lake.files.formats import describe_files
from scoreline.lake.files.shards import plan_shards
from scoreline.lake.storage import resolve

_BUILD = Path("build")
_PARTITION = "date=2020-01-01"
_NORMAL_ROWS = 131_072
# Increase it when the files of the same layout change.
_FORMAT = 1


class Layout(NamedTuple):
    """The layout of one partition: rows per file and rows per row group."""

    name: str
    rows: int
    file_rows: int
    group_rows: int


def choose_layouts(rows: int, files: int) -> list[Layout]:
    """Return the layouts to compare; the first is the baseline."""
    tenth = rows // 10
    return [
        Layout("row groups of a usual size", rows, rows, min(_NORMAL_ROWS, rows)),
        Layout("one row group", rows, rows, rows),
        Layout("one row group, a tenth of the rows", tenth, tenth, tenth),
        Layout("tiny files", tenth, max(1, tenth // files), max(1, tenth // files)),
    ]


def write_layout(source: Path, folder: Path, layout: Layout) -> None:
    """Write the first rows of a data set as one partition; the folder appears when complete."""
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / _PARTITION).mkdir(parents=True)
    files = sorted(source.glob("*=*/*.parquet"))
    table = pa.concat_tables(pq.ParquetFile(file).read() for file in files)
    table = table.slice(0, layout.rows).combine_chunks()
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    for number, start in enumerate(range(0, table.num_rows, layout.file_rows)):
        pq.write_table(
            table.slice(start, layout.file_rows),
            partial / _PARTITION / f"{number:06d}.parquet",
            row_group_size=layout.group_rows,
            compression="zstd",
            use_dictionary=strings,
        )
    partial.rename(folder)


class Result(NamedTuple):
    """The cost of a layout: number of files, size of the largest file, and usage of each run."""

    layout: Layout
    files: int
    largest_file_bytes: int
    usages: list[Usage]

    @property
    def peak_rss_mb(self) -> float:
        """The median peak of the runs."""
        return statistics.median(usage.peak_rss_mb for usage in self.usages)


def run(workload: Workload, folder: Path, args: argparse.Namespace) -> list[Result]:
    """Score every layout `repeats` times, and check each time that no row is missing.

    Raises:
      RunFailed: a run failed.
      Mismatch: the rows of a run differ from its input.
    """
    layouts = choose_layouts(args.rows, args.files)
    (source,) = tile(workload.flights, folder, [args.rows]).values()
    datasets = {}
    for layout in layouts:
        at = datasets[layout] = folder / (
            f"{source.name}-{layout.rows}-{layout.file_rows}-{layout.group_rows}-{_FORMAT}"
        )
        if not at.exists():
            write_layout(source, at, layout)
    usages: dict[Layout, list[Usage]] = {layout: [] for layout in layouts}
    output = folder / "memory_scores"
    for repeat in range(args.repeats):
        for layout, dataset in datasets.items():
            sys.stderr.write(f"repeat {repeat + 1}: {layout.name}, {layout.rows:,} rows … ")
            sys.stderr.flush()
            for left in folder.glob(f"{output.name}*"):
                shutil.rmtree(left)
            case = Case(SCORELINE, "small", 1, layout.rows)
            log = folder / "memory.log"
            usage = measure(command_of(case, workload, dataset, output), log)
            check(layout.name, dataset, output, KEY, workload.keep)
            usages[layout].append(usage)
            sys.stderr.write(f"{usage.peak_rss_mb:,.0f} MB, {usage.wall_s:.1f} s\n")
    results = []
    for layout, dataset in datasets.items():
        sizes = [file.stat().st_size for file in dataset.glob("*/*.parquet")]
        results.append(Result(layout, len(sizes), max(sizes), usages[layout]))
    return results


class Planning(NamedTuple):
    """Seconds to list the files of a data set, read their footers, and cut them into shards."""

    files: int
    list_s: float
    describe_s: float
    cut_s: float


def time_planning(dataset: Path) -> Planning:
    """Run the planning of a job on one data set, and measure it."""
    began = time.perf_counter()
    listing = list_dataset(str(dataset), ())
    listed = time.perf_counter()
    file_system, _ = resolve(str(dataset))
    (partition,) = listing.partitions
    footers = list(describe_files(file_system, listing.format, partition.files, None))
    described = time.perf_counter()
    plan_shards(partition, footers, "0" * 15, "")
    return Planning(
        len(partition.files),
        listed - began,
        described - listed,
        time.perf_counter() - described,
    )


def write_report(results: Sequence[Result], planning: Planning, folder: Path) -> str:
    """Write memory.json and memory.md into a folder, and return the text of the latter."""
    normal = results[0].peak_rss_mb
    lines = [
        "| layout of one partition | rows | files | largest file MB | peak MB | × usual row groups "
        "| s |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        wall = statistics.median(usage.wall_s for usage in result.usages)
        lines.append(
            f"| {result.layout.name} | {result.layout.rows:,} | {result.files:,} | "
            f"{result.largest_file_bytes / 1e6:.1f} | {result.peak_rss_mb:,.0f} | "
            f"{result.peak_rss_mb / normal:.2f} | {wall:.1f} |"
        )
    text = "\n".join(
        [
            *lines,
            "",
            f"- {planning.files:,} files: listing takes {planning.list_s:.2f} s, reading footers "
            f"{planning.describe_s:.2f} s, cutting them into shards {planning.cut_s:.2f} s",
            "",
        ]
    )
    record = {
        "results": [
            {
                **r.layout._asdict(),
                "files": r.files,
                "peak_rss_mb": round(r.peak_rss_mb),
                "peak_rss_mb_each": [round(usage.peak_rss_mb) for usage in r.usages],
            }
            for r in results
        ],
        "planning": planning._asdict(),
    }
    (folder / "memory.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "memory.md").write_text(text)
    return text


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    if args.files < 1 or args.rows < 10 * args.files or args.repeats < 1:
        parser.error(
            "expected at least one file, ten rows per file and one repeat, got "
            f"{args.files}, {args.rows} and {args.repeats}"
        )
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if a run failed or lost rows."""
    args = _parse_args(argv)
    folder = _BUILD / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        results = run(demo_workload(_BUILD), folder, args)
    except (Mismatch, RunFailed) as e:
        sys.stderr.write(f"\n{e}\n")
        return 1
    tiny = results[-1].layout
    name = f"*-{tiny.rows}-{tiny.file_rows}-{tiny.group_rows}-{_FORMAT}"
    (dataset,) = folder.glob(f"tiles-{name}")
    print(write_report(results, time_planning(dataset), folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
