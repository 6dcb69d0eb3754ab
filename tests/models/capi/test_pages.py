"""Memory of a loaded library that is given back, and that comes back."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from scoreline.models.runtimes.capi.library import find_folder, load_library
from scoreline.models.runtimes.capi.pages import find_read_only, forget_pages

MAPS = Path("/proc/self/maps")
SMAPS = Path("/proc/self/smaps")
needs_linux = pytest.mark.skipif(not MAPS.exists(), reason="only Linux has /proc")


def tensorflow():
    load_library()
    return Path(find_folder(), "libtensorflow_cc.so.2").resolve()


def mappings_of(library):
    """Return the start, the rights, the resident and the changed kB of each mapping of a file."""
    form = rf"^([0-9a-f]+)-\S+ (\S+) .* {re.escape(str(library))}\n((?:[A-Z].*\n)*)"
    for start, rights, details in re.findall(form, SMAPS.read_text(), re.M):
        sizes = dict(re.findall(r"^(\w+): +(\d+) kB", details, re.M))
        yield int(start, 16), rights, int(sizes["Rss"]), int(sizes["Anonymous"])


@needs_linux
def test_only_mappings_that_are_as_in_the_file_are_found():
    library = tensorflow()
    found = {mapping.start for mapping in find_read_only(MAPS.read_text(), library)}
    assert found
    seen = set()
    for start, rights, _, changed in mappings_of(library):
        if start in found:
            assert "w" not in rights
            assert changed == 0
            seen.add(start)
        elif "w" not in rights:
            assert changed  # addresses that the loader has filled in
    assert seen == found


@needs_linux
def test_pages_go_and_the_library_still_works():
    library = tensorflow()
    c = load_library().c
    version = c.TF_Version()
    before = sum(resident for _, _, resident, _ in mappings_of(library))
    changed = [changed for *_, changed in mappings_of(library)]
    forget_pages(str(library))
    after = sum(resident for _, _, resident, _ in mappings_of(library))
    assert after < before
    assert [changed for *_, changed in mappings_of(library)] == changed
    assert c.TF_Version() == version
    graph = c.TF_NewGraph()
    c.TF_DeleteGraph(graph)


@needs_linux
def test_other_files_are_left_alone(tmp_path):
    no_library = tmp_path / "text.so"
    for content in (b"", b"no library", b"\x7fELF\x02\x01", b"\x7fELF\x01\x01" + bytes(60)):
        no_library.write_bytes(content)
        line = f"1000-2000 r--p 00000000 fe:00 1   {no_library}\n"
        assert list(find_read_only(line, no_library)) == []
    python = Path(sys.executable).resolve()
    offset = next(
        line.split()[2] for line in MAPS.read_text().splitlines() if line.endswith(str(python))
    )
    lines = "".join(
        f"{start}000-{start + 1}000 {rights} {at} fe:00 1   {path}\n"
        for start, rights, at, path in [
            (1, "r--p", offset, python),
            (3, "rw-p", offset, python),
            (5, "r--s", offset, python),
            (7, "r--p", "0ffff000", python),
            (8, "r--p", offset, f"{python}.other"),
        ]
    )
    assert [mapping.start for mapping in find_read_only(lines, python)] == [0x1000]
