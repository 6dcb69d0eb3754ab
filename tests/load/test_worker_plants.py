"""Whole load tests of streams with several workers, and something planted: `make load-plants`.

The model waits, so two cores suffice for many workers. They are readers on Prism, or on Flink if
each must run beside all others: Prism may run two readers in one bundle, one after the other.
"""

import pytest

from scoreline.pipelines.load_test.scaling_result import describe_scaling
from tests.load.methods import find_out

pytestmark = [pytest.mark.kafka, pytest.mark.load, pytest.mark.timeout(7200)]
# Behind a backlog a call would have 8,192 rows, which wait for half a minute.
SMALL_CALLS = "--latency_target_ms=500"
# Of 55 records 44 are in partition 0 of 12, and one in each of the others.
SKEWED = tuple(0 if i % 5 else 1 + i // 5 for i in range(55))


@pytest.mark.prism
def test_most_records_in_one_partition_are_skew(start, plant, on_prism):
    driver = start(*plant(wait_us=4000), *on_prism, SMALL_CALLS, partitions=12, send_to=SKEWED)
    found = find_out(driver, workers=(4,), partitions=12, start_per_s=150.0)
    assert found.bottleneck.kind == "skew"
    assert found.bottleneck.max_over_mean > 2
    assert found.capacities[4].passes_per_s < 330  # 0.8 of it go to one worker


@pytest.mark.prism
def test_fewer_partitions_than_workers_are_the_limit(start, plant, on_prism):
    driver = start(*plant(wait_us=4000), *on_prism, SMALL_CALLS, partitions=2)
    found = find_out(driver, workers=(4,), partitions=2, start_per_s=300.0)
    assert found.bottleneck.kind == "partitions"
    assert "4 workers share 2, and 2 of them have no rows" in found.bottleneck.advice
    assert found.capacities[4].passes_per_s == pytest.approx(500, rel=0.12)


def scale(start, flags, *, partitions, per_s):
    """Return what 4 workers are limited by, and the capacities of 1, 2, 4 and 8.

    The method compares the workers of a verdict with one alone, so 4 are tested first. `per_s` is
    the expected capacity by number of workers: a search begins near it.
    """
    limited = find_out(
        start(*flags, SMALL_CALLS, partitions=partitions),
        workers=(4,),
        partitions=partitions,
        start_per_s=per_s[4],
    )
    others = find_out(
        start(*flags, SMALL_CALLS, partitions=partitions),
        workers=(1, 2, 8),
        partitions=partitions,
        start_per_s=per_s[1],
    )
    capacities = limited.capacities | others.capacities
    per_s = {workers: found.passes_per_s for workers, found in capacities.items()}
    scaling = describe_scaling(per_s, need_per_s=None, max_workers=partitions, precision=0.1)
    print(per_s, scaling)
    return limited.bottleneck, scaling


@pytest.mark.flink
@pytest.mark.parametrize("held_share", [0.1, 0.5])
def test_a_lock_that_all_workers_share_is_found_with_its_share(start, plant, on_flink, held_share):
    """While one holds the lock all others stop, so α of the law is the share of the work in it.

    A lock that only excludes its holders would cost less: workers take turns, and wait for none.
    """
    held_us = int(4000 * held_share)
    flags = plant(wait_us=4000 - held_us, hold_us=held_us)
    per_s = {n: 0.9 * 250 * n / (1 + held_share * (n - 1)) for n in (1, 4)}
    bottleneck, scaling = scale(start, (*flags, *on_flink), partitions=16, per_s=per_s)
    assert (bottleneck.stage, bottleneck.kind) == ("predict", "lock")
    assert scaling.alpha.low <= held_share <= scaling.alpha.high
    assert scaling.alpha.value == pytest.approx(held_share, abs=0.1)


@pytest.mark.flink
def test_a_model_that_waits_scales_with_workers_on_two_cores(start, plant, on_flink):
    """Calls wait at the same time, so that 12 workers need no more cores than one."""
    driver = start(*plant(wait_us=1000), *on_flink, SMALL_CALLS, partitions=24)
    found = find_out(driver, workers=(1, 2, 4, 8, 12), partitions=24, start_per_s=900.0)
    assert (found.bottleneck.stage, found.bottleneck.kind) == ("predict", "wait")
    assert "Add workers, not cores" in found.bottleneck.advice
    per_s = {workers: capacity.passes_per_s for workers, capacity in found.capacities.items()}
    scaling = describe_scaling(per_s, need_per_s=None, max_workers=24, precision=0.1)
    print(per_s, scaling)
    assert [point.workers for point in scaling.tested if point.held_out] == [12]
    assert scaling.held_out_error == pytest.approx(0, abs=0.1)
