import numpy as np

from scoreline.pipelines.load_test.driver.collect import note
from scoreline.pipelines.load_test.driver.ids import count_lost, open_seen, scored_at


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


def test_a_record_is_lost_if_a_later_one_of_its_partition_has_a_score():
    send_to = (0, 1)
    assert count_lost(np.array([1.0, 1, 0, 1, 0, 0]), send_to) == 0  # late, not lost
    assert count_lost(np.array([1.0, 1, 0, 1, 1, 0]), send_to) == 1
    assert count_lost(np.array([0.0, 0, 0, 0]), send_to) == 0
    assert count_lost(np.array([0.0, 0, 0, 1]), send_to) == 1
