"""The search for the capacity over windows that the judge judges: both together, on queues."""

from __future__ import annotations

import numpy as np
import pytest

from scoreline.pipelines.load_test.judge.elements import Slos
from scoreline.pipelines.load_test.judge.search import PRECISIONS, End, Search
from scoreline.pipelines.load_test.judge.window import judge_window
from tests.pipelines.load_test.judge import queues


def search_queue(rng, capacity_per_s, slos, *, start_per_s, precision="quick"):
    """Search the capacity of one server with a constant service time."""
    search = Search(start_per_s=start_per_s, precision=PRECISIONS[precision])
    seconds = search.precision.window_s
    while (probe := search.next_probe()) is not None:
        rate = probe.load_per_s
        due_s, scored_s = queues.queue(
            rng, rate, rate / capacity_per_s, seconds, kind="md1", commit_s=0.1
        )
        window = queues.window(due_s, scored_s, seconds, rate, commit_s=0.1, phase=probe.phase)
        search = search.after(judge_window(window, slos).outcome)
    return search


@pytest.mark.parametrize("slos", [Slos(rate_per_s=500), Slos(rate_per_s=500, latency_ms=500.0)])
def test_the_capacity_of_a_queue_is_found_within_the_precision(slos):
    """One server holds 1,000 rows/s; its latency grows from 950 rows/s on."""
    rng = np.random.default_rng(17)
    for start_per_s in (120.0, 700.0, 3000.0):
        search = search_queue(rng, 1000.0, slos, start_per_s=start_per_s)
        found = search.capacity()
        assert found.end is End.FOUND
        assert 950 / 1.1 <= found.passes_per_s <= 1000
        assert 950 <= found.fails_per_s <= 1100
        assert len(search.tried) <= 15
