"""The benchmarks of files and memory run, and their arithmetic is correct."""

from __future__ import annotations

import re

import pyarrow.parquet as pq

from benchmarks import scaling
from benchmarks.memory import Layout, choose_layouts, time_planning, write_layout
from benchmarks.scaling import plan_cluster
from tests.fakes import make_rows, write_file


def test_scaling_measures_every_step_on_few_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scaling, "_FOLDER", tmp_path / "bench" / "scaling")
    assert scaling.main(["--files=1000", "--shards=50"]) == 0
    text = capsys.readouterr().out
    assert len(re.findall(r"^\| [a-z].* \| [\d,]+ \| [\d.]+ \|", text, re.M)) > 15
    assert "50 found" in text
    assert re.search(r"cut to shards, 10 per partition \| 1,000 .* 100 shards", text)
    assert (tmp_path / "bench" / "scaling.md").read_text() in text


def test_slots_are_what_the_rows_need_within_the_night():
    # 10^9 rows of 1 ms are 10^6 CPU seconds; a slot gives 6 h x 0.7 = 15,120 of them.
    assert "| 1000 | 277.8 | 67 | 670 |" in plan_cluster(10**9, [1000.0], 10.0)
    assert "| 1 | 0.0 | 1 | 10 |" in plan_cluster(1, [1.0], 10.0)


def test_layouts_differ_in_files_and_row_groups_only(tmp_path):
    write_file(tmp_path / "lake", "date=1", "0.parquet", make_rows(0, 300))
    for number, layout in enumerate([*choose_layouts(200, 5), Layout("odd", 100, 30, 10)]):
        folder = tmp_path / str(number)
        write_layout(tmp_path / "lake", folder, layout)
        files = sorted(folder.glob("*/*.parquet"))
        rows = [pq.ParquetFile(file) for file in files]
        ids = [i for file in rows for i in file.read()["id"].to_pylist()]
        assert ids == list(range(layout.rows))
        assert len(files) == -(-layout.rows // layout.file_rows)
        groups = -(-min(layout.file_rows, layout.rows) // layout.group_rows)
        assert rows[0].num_row_groups == groups
        assert time_planning(folder).files == len(files)
