"""A table that its owner changes while a stream appends to it."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake

from scoreline.transforms.kafka.append import (
    append_scores,
    prepare_table,
)
from scoreline.transforms.kafka.ending import StreamRefused
from scoreline.transforms.kafka.watched_table import SCORED_DATE
from tests.fakes import read_scores
from tests.transforms.kafka.appending import ids_of, make_rows, make_spec, opened, watched


def rewrite(change, partition_by=SCORED_DATE):
    """Return the owner's overwrite of the table with other columns."""

    def act(output):
        table = change(read_scores(output))
        write_deltalake(
            output, table, mode="overwrite", schema_mode="overwrite", partition_by=[partition_by]
        )

    return act


def with_type(table, data_type):
    at = table.schema.get_field_index("y")
    return table.set_column(at, "y", table["y"].cast(data_type))


def delete_and_create(output):
    shutil.rmtree(output)
    spec = make_spec(output)
    prepare_table(spec, range(4))
    for first in range(5):  # as many versions as before, and more
        append_scores([make_rows(3, first, first + 1)], {3: first + 1}, spec, 0, watched(spec))


OWNERS_CHANGES = {
    "text": (rewrite(lambda t: with_type(t, pa.string())), "column 'y' as \"float\", the table"),
    "double": (rewrite(lambda t: with_type(t, pa.float64())), "column 'y' as \"float\", the table"),
    "dropped": (
        rewrite(lambda t: t.drop_columns(["y"])),
        "column 'y' as \"float\", the table has no",
    ),
    "renamed": (
        rewrite(lambda t: t.rename_columns({"y": "z"})),
        "column 'y' as \"float\", the table has no such column",
    ),
    "added": (
        lambda output: DeltaTable(output).alter.add_columns(Field("extra", "string")),
        "column 'extra' as no column",
    ),
    "partitions": (rewrite(lambda t: t, "model_digest"), "partitioned by scored_date"),
    "constraint": (
        lambda output: DeltaTable(output).alter.add_constraint({"low": "y < 500"}),
        "expected a table without constraints, got low: y < 500",
    ),
    "another_table": (delete_and_create, "it was deleted and created again while the job ran"),
    "deleted": (shutil.rmtree, "got none: it was deleted while the job ran"),
}


@pytest.mark.parametrize(("change", "told"), OWNERS_CHANGES.values(), ids=OWNERS_CHANGES)
@pytest.mark.parametrize("moment", ["before", "within"])
def test_a_table_that_its_owner_changes_is_never_appended_to(
    spec, monkeypatch, change, told, moment
):
    table = watched(spec)
    append_scores([make_rows(0, 0, 10)], {0: 10}, spec, 0, table)
    real = DeltaTable.create_write_transaction

    def change_first(self, *args, **kwargs):
        monkeypatch.undo()
        change(spec.output)
        return real(self, *args, **kwargs)

    if moment == "before":
        change(spec.output)
    elif change not in (delete_and_create, shutil.rmtree):  # these are seen before the commit only
        monkeypatch.setattr(DeltaTable, "create_write_transaction", change_first)
    else:
        return
    with pytest.raises(StreamRefused) as e:
        append_scores([make_rows(0, 10, 20)], {0: 20}, spec, 0, table)
    assert str(e.value).startswith("--output: expected ")
    assert told in str(e.value)
    if change is not shutil.rmtree:
        assert 15 not in ids_of(spec)


def test_a_table_whose_owner_changes_what_rows_do_not_need_is_appended_to(spec):
    table = watched(spec)
    append_scores([make_rows(0, 0, 10)], {0: 10}, spec, 0, table)
    owner = opened(spec)
    owner.alter.set_table_properties({"delta.logRetentionDuration": "interval 9 days"})
    owner.optimize.compact()
    owner.create_checkpoint()
    append_scores([make_rows(0, 10, 20)], {0: 20}, spec, 0, table)
    assert ids_of(spec) == list(range(20))


def test_nulls_are_not_appended_to_a_column_that_must_have_values(spec):
    shutil.rmtree(spec.output)
    required = pa.schema(
        [
            f.with_nullable(f.name != "model_digest")
            for f in (*spec.schema, pa.field(SCORED_DATE, pa.string()))
        ]
    )
    DeltaTable.create(spec.output, required, partition_by=[SCORED_DATE])
    append_scores([make_rows(0, 0, 10)], {0: 10}, spec, 0, watched(spec))
    rows = make_rows(0, 10, 20)
    at = rows.schema.get_field_index("model_digest")
    nulls = pa.nulls(rows.num_rows, rows.schema.field(at).type)
    rows = pa.RecordBatch.from_arrays(
        [nulls if i == at else rows.column(i) for i in range(rows.num_columns)], rows.schema.names
    )
    with pytest.raises(StreamRefused, match="'model_digest', which is NOT NULL"):
        append_scores([rows], {0: 20}, spec, 0, watched(spec))
    assert ids_of(spec) == list(range(10))


def test_compaction_vacuum_and_checkpoints_keep_the_history(spec):
    table = watched(spec)
    for first in range(0, 40, 10):
        append_scores([make_rows(0, first, first + 10)], {0: first + 10}, spec, 0, table)
    running = watched(spec)
    assert opened(spec).optimize.compact()["numFilesRemoved"] == 4
    opened(spec).create_checkpoint()
    opened(spec).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    # The running job continues, and a restarted job finds the same state.
    append_scores([make_rows(0, 35, 45)], {0: 45}, spec, 0, running)
    assert prepare_table(spec, range(2)) == {0: 45}
    assert ids_of(spec) == list(range(45))
