import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.pipelines.load_test.arrivals import find_due


def test_poisson_arrivals_have_the_rate_and_exponential_distances():
    due = find_due("poisson", 1000.0, 100.0, seed=1)
    assert due.size == pytest.approx(100_000, rel=0.02)
    apart = np.diff(due)
    assert (apart >= 0).all()
    assert apart.mean() == pytest.approx(0.001, rel=0.02)
    assert apart.std() == pytest.approx(0.001, rel=0.02)  # of an exponential: its mean


def test_even_arrivals_have_equal_distances():
    due = find_due("even", 50.0, 2.0, seed=1)
    assert due.size == 100
    assert np.allclose(np.diff(due), 0.02)


@given(st.sampled_from(["poisson", "even", "step", "spike"]), st.integers(0, 2**32 - 1))
def test_a_seed_gives_the_same_arrivals_again(shape, seed):
    kwargs = {"factor": 2.0, "from_s": 0.5, "until_s": 1.0}
    first, again = (find_due(shape, 100.0, 2.0, seed, **kwargs) for _ in range(2))
    assert np.array_equal(first, again)
    assert ((first >= 0) & (first <= 2.0)).all()


def test_other_seeds_give_other_arrivals():
    assert not np.array_equal(find_due("poisson", 100, 2, 1), find_due("poisson", 100, 2, 2))


def test_a_spike_multiplies_the_rate_for_its_time():
    due = find_due("spike", 1000.0, 90.0, seed=3, factor=5.0, from_s=30.0, until_s=60.0)
    counts = np.histogram(due, [0, 30, 60, 90])[0]
    assert counts == pytest.approx([30_000, 150_000, 30_000], rel=0.03)


def test_a_step_multiplies_the_rate_to_the_end():
    due = find_due("step", 1000.0, 60.0, seed=3, factor=2.0, from_s=30.0, until_s=40.0)
    assert np.histogram(due, [0, 30, 60])[0] == pytest.approx([30_000, 60_000], rel=0.03)


def test_a_trace_keeps_its_shape_at_another_rate_and_repeats():
    trace = np.concatenate([np.linspace(0, 10, 100, endpoint=False), [90.0, 99.0]])
    due = find_due("trace", 102.0, 3.0, seed=1, trace_s=trace)
    assert due.size == pytest.approx(306, abs=2)
    first = due[due < 1]  # a round of 102 arrivals takes a second
    assert np.count_nonzero(first < 0.12) == 100  # most of them in the first tenth, as in the trace
    assert np.allclose(due[: first.size] + 1, due[first.size : 2 * first.size])


def test_a_trace_without_times_is_refused():
    with pytest.raises(ValueError, match="at least two different times, got 3 times"):
        find_due("trace", 10.0, 1.0, 1, trace_s=np.array([5.0, 5.0, 5.0]))


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (-1, 1), (1, 0)])
def test_no_load_is_refused(rate, seconds):
    with pytest.raises(ValueError, match="positive rate and duration"):
        find_due("poisson", rate, seconds, 1)
