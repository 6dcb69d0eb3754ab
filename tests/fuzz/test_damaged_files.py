"""A damaged file costs itself alone: an error that names it, or rows that are right.

Each format is held to what it can promise. Compressed text and TFRecord have checksums: a damaged
file is an error, or has all its rows. A plain TFRecord that ends between two records has the first
of them. Plain text has no checksums: another digit is another value. There, the rows must be those
that Python's own parser finds in the damaged bytes. Parquet's footers and most writers' pages have
no checksums either; there, the number of rows must be that of the footer. For all formats: no crash
of the process, no exception that a job does not report, no hang.

`SCORELINE_FUZZ_SECONDS=3600` continues with other damage for half of that time (`make fuzz`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.child import Child
from tests.fuzz.mutate import KINDS, mutate
from tests.fuzz.rounds import SECONDS, rounds
from tests.fuzz.samples import SAMPLES, Sample, find_pages, rows_meant, write_checksums

# Damaged files of each sample in an ordinary run.
_FILES = 90
_SHARE = 0.5 / len(SAMPLES)
pytestmark = pytest.mark.timeout(120 + 2 * SECONDS)


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    """Return the process that reads damaged files."""
    started = Child()
    yield started
    started.close()


class Reader:
    """Reads one sample again and again, and judges each answer.

    Attributes:
      sound: the bytes of the undamaged file.
      last: the last answer.
    """

    def __init__(self, child: Child, sample: Sample, root: Path) -> None:
        """Write the sample, and read it once undamaged."""
        self._child, self._sample, self._root = child, sample, root
        self._file = sample.write(root)
        self.sound = self._file.read_bytes()
        self._truth = self._ask(17)
        self.last = self._truth
        assert self._truth[0] == "rows", self._truth

    def _ask(self, batch_rows: int) -> list:
        types = [list(pair) for pair in self._sample.types]
        return self._child.read(
            root=str(self._root), types=types, keys=["id", "day", "at"], batch_rows=batch_rows
        )

    def judge(self, damaged: bytes) -> str:
        """Return what is wrong with what came of a damaged file; "" if nothing is."""
        self._file.write_bytes(damaged)
        self.last = self._ask(17)
        outcome, *found = self.last
        if outcome == "error":
            # A path in a table's log may be damaged itself.
            names = (str(self._file), str(self._root))
            return "" if any(name in found[0] for name in names) else f"names no file: {found[0]}"
        if outcome != "rows":
            return f"{outcome}: {found[0]}"
        promise = self._sample.keeps_rows if damaged else ""  # an empty file has no rows
        if promise == "all" and found != self._truth[1:]:
            return f"other rows: {found}, not {self._truth[1:]}"
        if promise == "first" and found != self._truth[1:] and not self._is_start(damaged):
            return f"other rows: {found}, not {self._truth[1:]}"
        if promise == "meant":
            meant = rows_meant(self._file)
            if found[2] != [row.get("s") or "" for row in meant]:
                return f"other texts than Python's parser finds: {found[2]}, not {meant}"
        return ""

    def _is_start(self, damaged: bytes) -> bool:
        return self.sound.startswith(damaged)


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_damaged_file_costs_itself_alone(child, tmp_path, sample):
    reader = Reader(child, sample, tmp_path / "data")
    problems = {}
    for number, chance in enumerate(rounds(sample.name, _FILES, _SHARE)):
        kind = KINDS[number % len(KINDS)]
        size = len(reader.sound)
        # Footers, headers and the other bytes all have their turn.
        start, end = ((0, size), (size - size // 3, size), (0, min(size, 99)))[number % 3]
        damaged = mutate(reader.sound, chance, kind, start, end)
        problem = reader.judge(damaged) if damaged != reader.sound else ""
        if problem:
            place = tmp_path / f"damaged-{number}"
            place.write_bytes(damaged)
            problems[problem] = place
    shown = "\n\n".join(f"{place}: {problem}" for problem, place in list(problems.items())[:9])
    assert not problems, f"{len(problems)} kinds of problems:\n{shown}"


@pytest.mark.slow  # a soak of one reader
def test_damage_within_pages_that_have_checksums_is_always_seen(child, tmp_path):
    """Spark writes such files. Pages' headers and the footer have no checksums."""
    sample = Sample("checksums", write_checksums, "all")
    reader = Reader(child, sample, tmp_path / "data")
    pages = find_pages(reader.sound)
    assert sum(stop - start for start, stop in pages) > 500
    for number, chance in enumerate(rounds(sample.name, _FILES, _SHARE)):
        start, stop = pages[number % len(pages)]
        damaged = bytearray(reader.sound)
        damaged[chance.randrange(start, stop)] ^= 1 << chance.randrange(8)
        found = reader.judge(bytes(damaged))
        assert not found
        assert reader.last[0] == "error"
        assert "CRC" in reader.last[1] or "checksum" in reader.last[1].lower()
