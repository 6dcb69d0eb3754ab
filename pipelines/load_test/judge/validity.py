"""The conditions under which a window measures the pipeline, and not the harness or the machine."""

from __future__ import annotations

import math

import numpy as np

from scoreline.pipelines.load_test.judge import trend
from scoreline.pipelines.load_test.judge.elements import Check, Floats, Slos

MAX_SEND_LATE_SHARE = 0.1
MIN_CEILING = 1.3
MAX_NEIGHBOUR_CPU_SHARE = 0.05
MAX_STEAL_SHARE = 0.02
MAX_FALL_SHARE = 0.1
MAX_LITTLE_SHARE = 0.2
CLOCK_S = 0.01  # Kafka's timestamps are whole milliseconds


def max_send_late_ms(slos: Slos, seconds: float) -> float:
    """Return the p99 of send − due above which the sender, not the pipeline, is measured.

    It is a tenth of the latency limit, else of the freshness limit. Without both only the backlog
    matters: a sender that falls behind may add a tenth of the growth that the lag limit allows.
    """
    if slos.latency_ms is not None:
        return MAX_SEND_LATE_SHARE * slos.latency_ms
    allowed_s = slos.lag_growth_share * seconds if slos.freshness_s is None else slos.freshness_s
    return 1e3 * MAX_SEND_LATE_SHARE * allowed_s


def send_late_p99_ms(due_s: Floats, sent_s: Floats) -> float:
    """Return the p99 of send − due; a row that was never sent is later than all others."""
    late_s = np.where(np.isnan(sent_s), math.inf, sent_s - due_s)
    return 1e3 * float(np.percentile(late_s, 99, method="inverted_cdf"))


def check_sender(late_p99_ms: float, slos: Slos, seconds: float) -> Check:
    """Check that the records were sent when they were due."""
    return _at_most("sender_late_p99_ms", max_send_late_ms(slos, seconds), late_p99_ms)


def check_ceiling(ceiling_per_s: float, result_per_s: float) -> Check:
    """Check that the harness with a scorer that does nothing reaches 1.3 × the result."""
    ratio = ceiling_per_s / result_per_s if result_per_s > 0 else math.inf
    return Check("harness_ceiling", MIN_CEILING, ratio, ratio >= MIN_CEILING)


def check_machine(neighbour_cpu_share: float, steal_share: float) -> tuple[Check, Check]:
    """Check that other processes and the hypervisor left the machine to the test."""
    return (
        _at_most("neighbour_cpu_share", MAX_NEIGHBOUR_CPU_SHARE, neighbour_cpu_share),
        _at_most("steal_share", MAX_STEAL_SHARE, steal_share),
    )


def check_steady(bins: Floats, *, window_rows: float, max_growth_share: float) -> Check:
    """Check that the backlog did not fall between the halves of a window: the warm-up was over.

    The value is the lower end of the fall at 99.9 % confidence, as a share of the mean backlog. It
    is 0 if the fall hides less than a tenth of the growth that the lag limit allows. Windows with
    fewer than 12 bins cannot be checked. A rise is no fault of the measurement: the limits judge
    it.

    Args:
      bins: mean backlog per bin.
      window_rows: rows that are offered in the window.
      max_growth_share: the lag limit.
    """
    share = 0.0
    if len(bins) >= 2 * trend.MIN_BINS:
        low = trend.fall(bins, confidence=0.999).low
        # A fall of D rows between the halves is a slope of about 2·D in a window.
        if 2 * low > 0.1 * max_growth_share * window_rows:
            share = low / float(bins.mean())
    return _at_most("steady_state", MAX_FALL_SHARE, share)


def check_ids(extra_ids: int, lost_ids: int) -> Check:
    """Check that each record has one score."""
    return _at_most("ids_not_once", 0, extra_ids + lost_ids)


def check_clocks(sent_s: Floats, scored_s: Floats) -> Check:
    """Check that no record has its score before it was sent: ids fit, and clocks agree."""
    return _at_most("scored_before_sent", 0, int(np.count_nonzero(scored_s < sent_s - CLOCK_S)))


def check_little(mean_backlog: float, offered_per_s: float, mean_latency_s: float) -> Check:
    """Check Little's law: mean backlog = rate × mean latency (Little 1961, Oper. Res. 9).

    It holds in a steady state for any queue. The backlog counts rows, the rate is that of the
    plan: a difference means that rows of the plan are missing, or belong to another window.
    """
    expected = offered_per_s * mean_latency_s
    is_empty = max(mean_backlog, expected) < 1
    apart = 0.0 if is_empty or mean_backlog == expected else math.inf
    if expected > 0 and not is_empty:
        apart = abs(mean_backlog / expected - 1)
    return _at_most("littles_law", MAX_LITTLE_SHARE, apart)


def _at_most(name: str, limit: float, value: float) -> Check:
    return Check(name, limit, float(value), bool(value <= limit))
