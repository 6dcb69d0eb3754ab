from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from scoreline.lake.elements import DeadRows
from scoreline.transforms.alive import Alive


@given(st.integers(0, 50), st.data())
def test_rows_that_die_in_several_steps_are_named_by_their_first_position(rows, data):
    batch = pa.RecordBatch.from_arrays([pa.array(range(rows), pa.int64())], ["at"])
    alive, left, groups = Alive(rows), list(range(rows)), []
    for step in ("one", "two", "three"):
        some = data.draw(st.sets(st.integers(0, len(left) - 1))) if left else set()
        dead = alive.drop({number: f"why {left[number]}" for number in some}, step)
        assert list(dead.rows) == [left[number] for number in sorted(some)]
        assert list(dead.reasons) == [f"why {row}" for row in dead.rows]
        assert dead.step == step
        left = [row for number, row in enumerate(left) if number not in some]
        groups.append(dead)
        assert alive.rows == len(left)
        assert alive.positions.tolist() == alive.take(batch)["at"].to_pylist() == left
    assert Alive(rows, groups).positions.tolist() == left


def test_nothing_is_copied_while_no_row_is_dead():
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2])], ["n"])
    assert Alive(2).take(batch) is batch
    assert Alive(2, [DeadRows([0], ["why"], "step")]).take(batch)["n"].to_pylist() == [2]
