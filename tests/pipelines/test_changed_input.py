"""The input changes after it was scored: other types, rewritten files, files that are withdrawn."""

from __future__ import annotations

import json
import shutil
from urllib.parse import quote

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from scoreline.lake.files.dataset import list_dataset
from scoreline.lake.files.delta_changes import Seen, find_known, find_rewritten
from scoreline.pipelines import replay
from scoreline.pipelines.report.status import read_status
from tests.fakes import make_rows, read_scores, write_file
from tests.inputs import by_id, write_dataset
from tests.pipelines.test_bad_input import assert_refused

DAYS = ["date=2024-01-01", "date=2024-01-02", "date=2024-01-03"]


def committed(ended):
    assert ended.code == 0, ended
    return [line for line in ended.out.splitlines() if line.startswith("partitions")]


def states_of(output, root):
    """Return what `table status` says of each partition."""
    found = read_status(str(output), DeltaTable(str(output)), str(root), ())
    return {status.partition: status.state for status in found}


def seen_of(root):
    listing = list_dataset(root, ())
    return {p.path: Seen(listing.version, p.fingerprint) for p in listing.partitions}


def delete_rows(root):
    DeltaTable(root).delete("id = 5")


def append_rows(root):
    rows = make_rows(9000, 5)
    date = pa.array(["2024-01-01"] * 5).cast("date32")
    write_deltalake(root, rows.append_column("date", date), mode="append")


def optimize(root, *filters):
    DeltaTable(root).optimize.compact(list(filters) or None)


def checkpoint(root):
    DeltaTable(root).create_checkpoint()


def vacuum(root):
    DeltaTable(root).vacuum(0, dry_run=False, enforce_retention_duration=False)


def set_property(root):
    DeltaTable(root).alter.set_table_properties({"delta.appendOnly": "false"})


@pytest.mark.parametrize(
    ("change", "rewritten"),
    [
        (optimize, DAYS),
        (lambda root: DeltaTable(root).optimize.z_order(["x"]), DAYS),
        (lambda root: optimize(root, ("date", "=", "2024-01-02")), DAYS),
        (checkpoint, DAYS),
        (vacuum, DAYS),
        (set_property, DAYS),
        (lambda root: [optimize(root), checkpoint(root), vacuum(root)], DAYS),
        (delete_rows, DAYS[1:]),
        (append_rows, DAYS[1:]),
        (lambda root: [optimize(root), append_rows(root)], DAYS[1:]),
        (lambda root: [append_rows(root), optimize(root)], DAYS[1:]),
    ],
    ids=[
        "OPTIMIZE",
        "ZORDER",
        "OPTIMIZE of one day",
        "checkpoint",
        "VACUUM",
        "metadata",
        "OPTIMIZE, checkpoint and VACUUM",
        "DELETE of a row",
        "append",
        "OPTIMIZE, then append",
        "append, then OPTIMIZE",
    ],
)
def test_files_of_delta_that_were_only_rewritten_hold_the_same_rows(tmp_path, change, rewritten):
    root, _ = write_dataset(tmp_path / "lake", "delta", rows=20)
    seen = seen_of(root)
    change(root)
    assert find_rewritten(root, seen) == set(rewritten)


def test_log_that_was_cleaned_up_or_belongs_to_another_table_counts_as_changed(tmp_path):
    root, _ = write_dataset(tmp_path / "lake", "delta", rows=20)
    seen = seen_of(root)
    DeltaTable(root).optimize.compact()
    other = {path: held._replace(fingerprint="another") for path, held in seen.items()}
    assert find_rewritten(root, other) == find_known(root, other) == set()
    assert find_known(root, seen) == set(DAYS)
    assert find_rewritten(root, seen) == set(DAYS)
    checkpoint(root)
    for log in (tmp_path / "lake" / "_delta_log").glob("*.json"):
        log.unlink()
    assert find_rewritten(root, seen) == set()
    assert find_rewritten(str(tmp_path), seen) == set()


def test_optimized_input_is_left_alone_and_a_deleted_day_is_published_empty(score, tmp_path):
    root, _ = write_dataset(tmp_path / "lake", "delta", rows=20)
    committed(score(input=root))
    DeltaTable(root).optimize.compact()

    ended = score("--reprocess=stale", input=root)

    assert "Nothing is left to do" in ended.out
    assert "were scored with another" not in ended.out
    assert states_of(tmp_path / "scores", root) == dict.fromkeys(DAYS, "committed")
    DeltaTable(root).delete("date = '2024-01-02'")
    assert states_of(tmp_path / "scores", root)[DAYS[1]] == "input gone"
    ended = score("--reprocess=stale", "--check", input=root)
    assert ended.code == 0, ended
    ended = score("--reprocess=stale", input=root)
    assert committed(ended)[0].split()[1:] == ["1", "committed"]
    assert sorted(set(read_scores(tmp_path / "scores")["date"].to_pylist())) == [
        "2024-01-01",
        "2024-01-03",
    ]
    assert "Nothing is left to do" in score("--reprocess=stale", input=root).out
    assert states_of(tmp_path / "scores", root) == dict.fromkeys(DAYS, "committed")
    DeltaTable(root).delete()
    assert committed(score("--reprocess=stale", input=root))[0].split()[1] == "2"
    assert read_scores(tmp_path / "scores").num_rows == 0


def test_folders_without_files_are_published_empty_and_folders_that_are_gone_if_named(
    score, tmp_path
):
    lake = tmp_path / "lake"
    for day in (1, 2, 3):
        write_file(lake, f"d={day}", "0.parquet", make_rows(day * 100, 5))
    committed(score("--keep=s", input=lake))
    (lake / "d=1" / "0.parquet").unlink()
    shutil.rmtree(lake / "d=2")

    ended = score("--keep=s", "--reprocess=stale", input=lake)

    assert committed(ended)[0].split()[1] == "1"
    assert set(read_scores(tmp_path / "scores")["d"].to_pylist()) == {"2", "3"}
    ended = score("--keep=s", "--reprocess=stale", "--partitions=d=1..3", input=lake)
    assert "Nothing is left to do" in ended.out
    assert_refused(score("--keep=s", "--partitions=d=2", input=lake), "no partition matches")
    ended = score("--keep=s", "--reprocess=stale", "--partitions=d=2", input=lake)
    assert committed(ended)[0].split()[1] == "1"
    assert set(read_scores(tmp_path / "scores")["d"].to_pylist()) == {"3"}
    # Without files the format is unknown: options of text are no problem.
    (tmp_path / "types.json").write_text('{"id": "int64"}')
    given = (f"--schema={tmp_path}/types.json", "--csv_escape=\\", "--partitions=d=1")
    ended = score("--keep=s", "--reprocess=stale", *given, input=lake)
    assert "Nothing is left to do" in ended.out


def test_columns_whose_types_differ_between_days_are_copied_without_loss(score, tmp_path, model):
    lake = tmp_path / "lake"
    big = 2**40
    kinds = {
        "id": (pa.int32(), pa.int64(), pa.int64()),
        "n": (pa.int16(), pa.int64(), pa.int8()),
        "note": (pa.null(), pa.string(), pa.large_string()),
        "code": (pa.int8(), pa.int64(), pa.null()),
        "size": (pa.float32(), pa.float64(), pa.null()),
        "tags": (pa.list_(pa.null()), pa.list_(pa.string()), pa.null()),
        "user": (
            pa.struct([("age", pa.null())]),
            pa.struct([("age", pa.int64())]),
            pa.struct([("age", pa.int8())]),
        ),
    }
    values = {
        "id": (1, big, 3),
        "n": (300, big, 1),
        "note": (None, "é", "x"),
        "code": (7, big, None),
        "size": (0.1, 0.1, None),
        "tags": ([], ["a"], None),
        "user": ({"age": None}, {"age": big}, {"age": 1}),
    }
    for day in (0, 1, 2):
        columns = {name: pa.array([values[name][day]], kinds[name][day]) for name in kinds}
        x = pa.array([None if day < 2 else 1.0], pa.float32())
        table = pa.table({**columns, "x": x, "s": ["a"]})
        # The last day has another type in each of two files.
        write_file(lake, "d=1" if day < 2 else "d=2", f"{day}.parquet", table)
    keep = "note,code,size,tags,user.age"
    ended = score("--partitions=d=1", f"--keep={keep}", "--fill=x=0", "--batch_rows=10", input=lake)
    assert ended.code == 0, ended
    # The last day alone has other types: those of the table hold its values.
    ended = score(f"--keep={keep}", "--fill=x=0", input=lake)
    assert ended.code == 0, ended
    scores = read_scores(tmp_path / "scores")
    assert str(scores.schema.field("id").type) == "int64"
    for name in ("note", "code", "tags"):
        assert sorted(map(str, by_id(scores, name).values())) == sorted(map(str, values[name]))
    assert by_id(scores, "user.age") == {1: None, big: big, 3: 1}
    assert by_id(scores, "size")[big] == 0.1
    assert by_id(scores)[big] == pytest.approx(3.0 * big + 1)
    # Without --fill two rows are dead letters of one file, and come back by a replay.
    ended = score("--reprocess=all", f"--keep={keep}", "--max_dead_letter_ratio=1", input=lake)
    assert ended.code == 3, ended
    assert by_id(read_scores(tmp_path / "scores")).keys() == {3}
    assert (
        replay.main(
            [
                f"--output={tmp_path / 'scores'}",
                f"--model={model}",
                "--keys=id",
                f"--keep={keep}",
                "--fill=x=0",
            ]
        )
        == 0
    )
    replayed = read_scores(tmp_path / "scores")
    assert by_id(replayed) == by_id(scores)
    assert by_id(replayed, "user.age") == by_id(scores, "user.age")


def test_column_that_is_null_everywhere_is_refused_with_what_to_do(score, tmp_path):
    rows = make_rows(0, 3).append_column("note", pa.nulls(3))
    write_file(tmp_path / "lake", "d=1", "0.parquet", rows)
    ended = score("--keep=note", input=tmp_path / "lake")
    assert_refused(ended, "column 'note' cannot be copied: its values are all null (as null)")


def clone(source, target, prefix):
    """Write a shallow clone: a log whose paths are absolute."""
    (target / "_delta_log").mkdir(parents=True)
    log = "_delta_log/00000000000000000000.json"
    lines = [json.loads(line) for line in (source / log).read_text().splitlines()]
    for action in (line["add"] for line in lines if "add" in line):
        where = str(source) if prefix == "/" else quote(str(source))
        action["path"] = f"{prefix}{where.lstrip('/')}/{action['path']}"
    (target / log).write_text("\n".join(map(json.dumps, lines)))
    return str(target)


@pytest.mark.parametrize("prefix", ["file:///", "file:/", "FILE://localhost/", "/"])
def test_shallow_clone_is_read_where_its_files_are(tmp_path, prefix):
    source = tmp_path / "a b"
    rows = make_rows(0, 6).append_column("d", pa.array(["x y", "z/1"] * 3))
    write_deltalake(str(source), rows, partition_by=["d"])
    listing = list_dataset(clone(source, tmp_path / "clone", prefix), ())
    assert listing.problems == []
    paths = [file.path for partition in listing.partitions for file in partition.files]
    assert sorted(paths) == sorted(map(str, source.glob("d=*/*.parquet")))


@pytest.mark.parametrize(
    "prefix", ["s3://bucket/", "abfss://lake@x.dfs.core.windows.net/", "file://host/"]
)
def test_shallow_clone_of_another_store_is_refused_in_one_sentence(score, tmp_path, prefix):
    write_dataset(tmp_path / "source", "delta", days=2, rows=4)
    ended = score(input=clone(tmp_path / "source", tmp_path / "clone", prefix))
    assert_refused(ended, f"expected files in the store of the table, got {prefix}")
    assert len(ended.err.splitlines()) == 1
