"""Spark with Delta Lake reads the tables, changes them, and writes inputs."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from deploy.local.delta_spark import delta_jars
from scoreline.lake.files.partitions import partition_path
from scoreline.lake.table.scores import create_table, open_scores
from scoreline.pipelines import score_batch, table
from tests.fakes import ROOT, read_scores
from tests.interop import KEPT, UTC, make_table, rows_by_id, write_arrow
from tests.json_output import read_object
from tests.lake.table.awkward import AWKWARD_VALUES
from tests.lake.table.test_scores import SCHEMA, commit_partition, spec_of, stage
from tests.required import fail_or_skip
from tests.spark_job import FILTERED

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

ROWS = make_table()
WANTED = rows_by_id(ROWS.to_pylist())
AWKWARD = list(AWKWARD_VALUES.values())


def score(lake, model, output):
    flags = [f"--input={lake}", f"--model={model}", f"--output={output}", "--keys=id"]
    assert score_batch.main([*flags, f"--keep={','.join(KEPT)}"]) == 0
    return str(output)


def commit_values(output, values, files):
    """Create a table with files of two rows for each value."""
    create_table(output, SCHEMA, ["p"])
    opened = DeltaTable(output)
    metadata = {"model_digest": f"sha256:{'1' * 64}", "job_id": "job"}
    spec = spec_of(output)._replace(metadata=metadata)
    for number, value in enumerate(values):
        partition, run = partition_path([("p", value)]), f"{number + 1:015x}"
        receipts = [
            stage(output, [2 * n, 2 * n + 1], partition, run, number=n, shards=files)
            for n in range(files)
        ]
        assert commit_partition(receipts, spec, opened).state == "committed"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """Return a folder in which a Spark session has read, written and changed everything."""
    if missing := delta_jars().missing_tools():
        fail_or_skip(f"tables in Spark, which needs {' and '.join(missing)}, not installed")
    jars = delta_jars().fetch()
    root = tmp_path_factory.mktemp("spark")
    write_arrow(ROWS, root / "lake")
    score(root / "lake", model, root / "typed")
    commit_values(str(root / "awkward"), AWKWARD, files=1)
    commit_values(str(root / "updated"), ["a b", "a/b", "R&D"], files=2)
    shutil.copytree(root / "updated", root / "deleted")
    pq.write_table(ROWS, root / "rows.parquet")
    command = [sys.executable, "-m", "tests.spark_job", str(jars), str(root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return root


def test_spark_reads_equal_values_of_every_type(folder):
    rows = pq.read_table(folder / "typed.read.parquet").to_pylist()
    assert rows_by_id(rows) == WANTED


def test_spark_reads_equal_partition_values(folder):
    rows = pq.read_table(folder / "awkward.read.parquet").to_pylist()
    assert sorted(row["p"] for row in rows) == sorted(AWKWARD * 2)


@pytest.mark.parametrize("number", range(len(FILTERED)), ids=FILTERED)
def test_spark_filters_by_partition_values(folder, number):
    rows = pq.read_table(folder / f"filtered-{number}.parquet").to_pylist()
    assert [row["p"] for row in rows] == [FILTERED[number]] * 2


@pytest.mark.parametrize("kind", ["parquet", "delta"])
def test_what_spark_writes_is_kept_and_scored_as_it_is(folder, model, tmp_path, kind):
    """Times are INT96, Spark's default: it has no zones, the times are those of UTC."""
    output = score(folder / kind, model, tmp_path / "scores")
    rows = read_scores(output).to_pylist()
    for row in rows:
        row["at_utc"] = row["at_utc"] and row["at_utc"].replace(tzinfo=UTC)
    assert rows_by_id(rows) == WANTED


def test_json_of_spark_has_the_same_rows(folder, model, tmp_path):
    flags = [f"--input={folder / 'json'}", f"--model={model}", f"--output={tmp_path / 'scores'}"]
    assert score_batch.main([*flags, "--keys=id", "--keep=text", "--columns=x=float32(x)"]) == 0
    rows = read_scores(tmp_path / "scores").to_pylist()
    assert {row["id"]: (row["p"], row["text"]) for row in rows} == {
        id_: (row["p"], row["text"]) for id_, row in WANTED.items()
    }


@pytest.fixture
def manage(capsys):
    def run(command, output):
        capsys.readouterr()
        code = table.main([command, f"--output={output}", "--json"])
        return read_object(f"table_{command}", capsys.readouterr().out, code)

    return run


def states_of(found):
    return {row["partition"]: row["state"] for row in found["partitions"]}


def test_what_spark_updates_and_compacts_is_reported(folder, manage):
    output = folder / "updated"
    found = manage("verify", output)
    assert (found["exit_code"], found["unchecked"]) == (0, ["p=a%20b", "p=a%2Fb"])
    assert "1 of 1 files were written by another program (OPTIMIZE in" in found["remarks"][0]
    assert "rows were changed by another program (UPDATE in version 4)" in found["remarks"][1]
    states = states_of(manage("status", output))
    assert states == {"p=a%20b": "committed", "p=a%2Fb": "changed", "p=R%26D": "committed"}


def test_rows_that_spark_deletes_by_a_vector_are_reported(folder, manage):
    """The file is the same; only the log has a list of the rows that are deleted from it."""
    output = folder / "deleted"
    assert '"deletionVector":{' in "".join(log.read_text() for log in output.rglob("*.json"))
    found = manage("verify", output)
    assert found["unchecked"] == ["p=R%26D"]
    assert "rows were changed by another program (DELETE in" in found["remarks"][0]
    states = states_of(manage("status", output))
    assert states == {"p=a%20b": "committed", "p=a%2Fb": "committed", "p=R%26D": "changed"}
    with pytest.raises(ValueError, match="expected a table without deletionVectors, got"):
        open_scores(str(output))
