from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from scoreline.pipelines.optimize.rows import read_rows
from scoreline.pipelines.options.commands import parse_flags
from scoreline.pipelines.options.optimize import read_optimize
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.plan.model import find_model
from tests.fakes import make_rows, write_file, write_lake
from tests.inputs import write_bytes


@pytest.fixture(scope="module")
def servable(model):
    problems = Problems()
    flags = [f"--model={model}", "--input=i", "--keys=id", "--output=o"]
    settings = read_optimize(parse_flags("optimize", flags, problems).given, problems)
    loaded = find_model(settings.model, problems).load_here()
    yield loaded
    loaded.close()


def rows_of(servable, model, lake, *flags):
    problems = Problems()
    given = [f"--model={model}", f"--input={lake}", "--keys=id", "--output=o", *flags]
    settings = read_optimize(parse_flags("optimize", given, problems).given, problems)
    spec = find_model(settings.model, problems)
    return read_rows(settings, spec, servable.signature, problems)


def test_all_rows_are_read_if_they_are_few(servable, model, tmp_path):
    lake = write_lake(tmp_path, days=2, rows=200)
    found = rows_of(servable, model, lake)
    assert found.batch["id"].to_pylist() == list(range(400))
    assert (found.partitions, found.rows_found, found.rows_without_label) == (2, 400, 0)


def test_a_sample_is_spread_over_all_rows_and_always_the_same(servable, model, tmp_path):
    lake = write_lake(tmp_path, days=4, rows=5000)
    found = rows_of(servable, model, lake, "--max_rows=2000")
    ids = found.batch["id"].to_numpy()
    assert found.rows_found == 20_000
    assert 1800 < len(ids) < 2200
    # A share of 0.1 of each day's 5,000 rows: 500 ± 6 standard deviations.
    per_day = np.bincount(ids // 5000)
    assert len(per_day) == 4
    assert all(370 < rows < 630 for rows in per_day)
    again = rows_of(servable, model, lake, "--max_rows=2000")
    assert again.batch.equals(found.batch)


def test_of_files_that_count_no_rows_the_first_of_each_are_read(servable, model, tmp_path):
    lines = [f"{i},0.5,2,a" for i in range(100)]
    for day in (1, 2):
        text = "\n".join(["id,x,n,s", *lines, ""])
        write_bytes(tmp_path / f"date=2024-01-0{day}" / "0.csv", text.encode())
    found = rows_of(servable, model, tmp_path, "--max_rows=60", "--columns=x=float32(x)")
    assert found.rows_found is None
    assert found.batch["id"].to_pylist() == [*range(30)] * 2


def test_rows_without_a_label_are_left_out_and_counted(servable, model, tmp_path):
    rows = make_rows(0, 6)
    late = pa.array([1.0, None, float("nan"), 16.0, 15.9, None])
    write_file(tmp_path, "date=2024-01-01", "0.parquet", rows.append_column("late", late))
    plain = rows_of(servable, model, tmp_path, "--label=late")
    assert (plain.batch["id"].to_pylist(), plain.rows_without_label) == ([0, 3, 4], 3)
    compared = rows_of(servable, model, tmp_path, "--label=late>=16")
    assert compared.batch["late"].to_pylist() == [False, True, False]
    assert pc.all(pc.is_valid(compared.batch["late"])).as_py()


@pytest.mark.parametrize(
    ("values", "bound", "labels"),
    [
        (pa.array([1, 2, 3], pa.int8()), 2, [False, True, True]),
        (pa.array([True, False, True]), 1, [True, False, True]),
        (pa.array([True, False, True]), 2, [False, False, False]),
        (pa.array([Decimal("1.5"), Decimal("2.5"), Decimal(0)]), 1.5, [True, True, False]),
        (pa.array(["1", "2", "3"]), 2, ["1", "2", "3"]),  # refused when the truth is read
    ],
    ids=["int8", "boolean", "boolean above 1", "decimal", "text"],
)
def test_labels_of_every_type_are_compared(servable, model, tmp_path, values, bound, labels):
    rows = make_rows(0, 3).append_column("late", values)
    write_file(tmp_path, "date=2024-01-01", "0.parquet", rows)
    found = rows_of(servable, model, tmp_path, f"--label=late>={bound}")
    assert found.batch["late"].to_pylist() == labels


def test_columns_that_are_missing_are_told_at_once(servable, model, tmp_path):
    lake = write_lake(tmp_path, days=1, rows=20)
    with pytest.raises(BadOptions) as e:
        rows_of(servable, model, lake, "--label=lat", "--slices=cuntry")
    told = "\n".join(e.value.problems)
    assert "'lat'" in told
    assert "'cuntry'" in told
