import numpy as np

from scoreline.pipelines.load_test.driver.send import max_queued


def test_the_queue_of_the_sender_holds_a_tenth_of_a_second():
    assert max_queued(np.arange(0, 30, 1 / 5000)) == 500
    assert max_queued(np.array([0.0, 10.0])) == 100  # a slow load
    assert max_queued(np.array([0.0])) == 100
