"""How many rows are compared, and which."""

from __future__ import annotations

import pyarrow as pa

from scoreline.transforms.metrics import Tally
from scoreline.transforms.scoring import score_batch
from tests.transforms.swap.folder import rows_of


def test_few_rows_are_enough_after_a_while(folder, caplog):
    folder.add(2, "near")
    folder.look(2)
    folder.score(40)
    folder.clock.now = 29.0
    folder.look()
    assert folder.watcher._candidate is not None
    folder.clock.now = 30.0
    folder.look()
    assert folder.serves(2, 2.001)
    assert "on 40 rows" in caplog.text


def test_a_handful_of_rows_is_never_enough(folder, caplog):
    folder.add(2, "near")
    folder.look(2)
    folder.score(31)
    folder.clock.now = 1000.0
    folder.look()
    assert folder.score(1)[1] == folder.digest(1)
    folder.look()
    assert folder.serves(2, 2.001)
    assert "on 32 rows" in caplog.text


def test_a_sample_of_large_rows_is_full_by_its_bytes(folder, caplog, monkeypatch):
    monkeypatch.setattr("scoreline.transforms.swap.judge._SAMPLE_BYTES", 300)
    folder.add(2, "near")
    folder.look(2)
    folder.score(12)
    folder.look()
    assert folder.watcher._candidate is not None
    folder.score(12)
    folder.look()
    assert "on 24 rows" in caplog.text
    assert folder.serves(2, 2.001)


def test_rows_that_the_old_model_cannot_score_are_no_sample(folder):
    folder.add(2, "near")
    folder.look(2)
    batch = rows_of(100).set_column(1, "a", pa.array([None, *[1.0] * 99], pa.float32()))
    _, dead = score_batch(batch, *folder.watcher.take(), Tally())
    folder.watcher.offer(batch, dead)
    folder.clock.now = 1000.0
    sample = folder.watcher._sample.take()
    assert sample.num_rows == 99
    assert sample["a"].null_count == 0
