import numpy as np
import pytest

from scoreline.pipelines.load_test.driver.collect import note
from scoreline.pipelines.load_test.driver.ids import MAX_RECORDS, count_lost, open_seen, scored_at
from scoreline.pipelines.load_test.driver.loads import StreamSubject
from scoreline.pipelines.load_test.driver.stream import StreamDriver
from scoreline.pipelines.load_test.driver.topics import Topics
from scoreline.transforms.kafka.client import Connection


def test_each_record_is_noted_once_and_further_scores_are_counted(tmp_path):
    seen = open_seen(tmp_path)
    note(seen, [3, 5, 3], is_dead=False, now_s=10.0)
    note(seen, [5, 4, -1], is_dead=True, now_s=11.0)
    again = open_seen(tmp_path)  # what the driver sees
    at = scored_at(again, slice(2, 6))
    assert np.array_equal(at, [np.nan, 10.0, 11.0, 10.0], equal_nan=True)
    assert again.is_dead[2:6].tolist() == [0, 0, 1, 0]
    assert again.extra[2:6].tolist() == [0, 1, 0, 1]
    assert again.totals.tolist() == [6, 1]


def test_a_record_is_lost_if_its_offset_is_committed_without_a_score():
    scored, send_to = np.array([1.0, 1, 0, 1, 0, 0]), (0, 0, 1)  # 0: 1, 1, 1, 0  1: 0, 0
    assert count_lost(scored, send_to, {}) == 0
    assert count_lost(scored, send_to, {0: 3, 1: 0}) == 0  # late, not lost
    assert count_lost(scored, send_to, {0: 4, 1: 1}) == 2
    assert count_lost(scored, send_to, {0: 4, 1: 2}) == 3


def test_a_start_takes_no_more_records_than_have_numbers(tmp_path):
    subject = StreamSubject(
        connection=Connection(brokers="b:1"), argv=(), values=(b"x",), partitions=2
    )
    driver = StreamDriver(subject, tmp_path, "run", lambda workers: None)
    driver._seen = open_seen(tmp_path)
    assert driver.can_take(MAX_RECORDS)
    assert not driver.can_take(MAX_RECORDS + 1)
    driver._topics = Topics("records", "scores", "dead")
    assert driver._load(MAX_RECORDS, 0.0).count == MAX_RECORDS
    with pytest.raises(ValueError, match="expected at most 67,108,864 records for one start"):
        driver._load(1, 0.0)
