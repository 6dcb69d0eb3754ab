"""The lines of the page of a load test. A line is "" if there is nothing to tell."""

from __future__ import annotations

from scoreline.pipelines.load_test.judge.elements import Limit, Outcome
from scoreline.pipelines.load_test.report.limits import (
    SHOWN,
    describe_check,
    describe_limit,
    describe_target,
)
from scoreline.pipelines.load_test.report.numbers import (
    bracket,
    duration,
    number,
    percent,
    percent_interval,
    percentile,
    rate,
    with_bracket,
)
from scoreline.pipelines.load_test.result import Capacity, LoadTest

_KINDS = {"cpu": "CPU", "wait": "waiting", "none": "no stage"}
# The fact that counts the records of all probes.
RECORDS = "records"
# Percentiles from here on are shown with their intervals.
_RARE = 99.0


def verdict(test: LoadTest) -> str:
    """Return the verdict and its reason."""
    wanted = describe_target(test.target)
    target = f"target {wanted}" if wanted else "no target"
    word = test.outcome.value.upper()
    soak_limits, soak_checks = (test.soak.limits, test.soak.checks) if test.soak else ((), ())
    if test.outcome is Outcome.INVALID:
        wrong = [describe_check(check) for check in test.checks if not check.is_ok]
        wrong += [f"soak: {describe_check(check)}" for check in soak_checks if not check.is_ok]
        return f"{word}   {target}: no verdict: {'; '.join(wrong) or 'see the line valid'}"
    if test.outcome is Outcome.PASS:
        spare = "" if test.headroom is None else f", with {number(test.headroom)} × to spare"
        return f"{word}   {target}: holds{spare}"
    said = "undecided" if test.outcome is Outcome.UNDECIDED else "does not hold"
    wrong = [
        f"{where}{describe_limit(limit, test.target)}"
        for where, limits in (("", test.limits), ("soak: ", soak_limits))
        for limit in limits
        if limit.outcome is not Outcome.PASS
    ]
    return f"{word}   {target}: {said}{': ' if wrong else ''}{'; '.join(wrong)}"


def capacity(test: LoadTest) -> str:
    """Return the highest load that passes and the lowest that fails."""
    found = test.capacity
    if found is None:
        return ""
    if found.passes_per_s is None:
        passes = "no tested load passes"
    else:
        passes = f"{rate(found.passes_per_s)} passes ({found.passed}/{found.pass_windows})"
    if found.fails_per_s is None:
        fails = "no tested load fails"
    else:
        fails = (
            f"{rate(found.fails_per_s)} fails ({found.failed}/{found.fail_windows}"
            f"{_reason(found, test)})"
        )
    harness = "   limited by the harness" if found.limited_by_harness else ""
    return f"{passes} · {fails}   precision {percent(found.precision)}{harness}"


def _reason(found: Capacity, test: LoadTest) -> str:
    """Return why the lowest failing load fails."""
    because: Limit | None = found.fails_because
    if because is None:
        return ""
    if because.name == "lag_growth_share" and found.lag_at_fail is not None:
        return f": lag {percent_interval(found.lag_at_fail)}"
    return f": {describe_limit(because, test.target)}"


def estimates(test: LoadTest) -> str:
    """Return what other methods say about the capacity."""
    given = test.estimates
    found = test.capacity.passes_per_s if test.capacity else None
    named = {"drain": given.drain_per_s, "busy time": given.busy_time_per_s, "bisect": found}
    return " · ".join(f"{name} {number(value)}" for name, value in named.items() if value)


def latency(test: LoadTest) -> str:
    """Return the percentiles at the target; the rare ones with their intervals."""
    probe = test.at_target
    if probe is None:
        return ""
    told = [
        f"{name} {percentile(value, is_whole=float(name[1:]) >= _RARE)}"
        for name, value in probe.judged.latency_ms.items()
    ]
    return f"at {rate(probe.offered_per_s)}   {' · '.join(told)}   ms"


def bottleneck(test: LoadTest) -> str:
    """Return the stage that limits the capacity, and whether that is confirmed."""
    found = test.bottleneck
    if found is None:
        return ""
    kind = _KINDS.get(found.kind, found.kind)
    if not found.stage:
        return kind
    evenness = "even" if found.max_over_mean < 1.2 else "uneven"
    where = f"{percent(found.share)} of the slowest worker"
    workers_ = f"workers {evenness}, {number(round(found.max_over_mean, 2))}"
    gain = "" if found.gain_if_free is None else percent(found.gain_if_free, signed=True)
    if found.confirmed is None:
        free = f"if it were free: {gain} by Amdahl's law; " if gain else ""
        proof = f"{free}not confirmed: ablation was not tried"
    elif not found.confirmed:
        proof = "not confirmed: the capacity is the same without it (ablation)"
    else:
        proof = f"without it {gain} (ablation)" if gain else "confirmed (ablation)"
    return f"{found.stage}, {kind} ({where}; {workers_}); {proof}"


def model_alone(test: LoadTest) -> str:
    """Return what the model holds without the pipeline."""
    found = test.model_alone
    if found is None:
        return ""
    told = [
        f"alone {number(found.offline_per_s)}/s in large calls",
        f"a single row {number(found.single_row_p90_ms)} ms (p90)",
    ]
    if found.server_p99_ms is not None:
        rate = number(found.server_rate_per_s)
        told.append(f"at {rate}/s p99 {number(found.server_p99_ms)} ms")
    return f"{' · '.join(told)}   (MLPerf LoadGen)"


def advice(test: LoadTest) -> str:
    """Return what to do about it."""
    return test.bottleneck.advice if test.bottleneck else ""


def memory(test: LoadTest) -> str:
    """Return the peak of the memory, and when a leak reaches the limit."""
    probe = test.at_target
    if probe is None or probe.peak_rss_mb is None:
        return ""
    told = f"{number(probe.peak_rss_mb)} MB at most"
    hours = probe.judged.memory_hours_left
    limit = test.target.memory_mb
    if limit is not None:
        told += f" of {number(limit)} MB"
    return told if hours is None else f"{told}, growing: {number(hours)} h until the limit"


def workers(test: LoadTest) -> str:
    """Return the capacity over the number of workers, and the fit."""
    found = test.scaling
    if found is None:
        return ""
    points = "  ".join(
        f"{point.workers}: {number(point.per_s)}{' (held out)' if point.held_out else ''}"
        for point in found.tested
    )
    told = [f"{points} /s"]
    if found.alpha is not None and found.beta is not None:
        told.append(f"α {with_bracket(found.alpha)}  β {with_bracket(found.beta)}")
    elif found.refused_because:
        told.append(f"no fit: {found.refused_because}")
    if found.held_out_error is not None:
        told.append(f"held out point {percent(found.held_out_error, signed=True)}")
    if found.max_workers is not None:
        told.append(f"partitions cap at {found.max_workers:,}")
    return "   ".join(told)


def need(test: LoadTest) -> str:
    """Return the workers for the need of the profile."""
    found = test.scaling.demand if test.scaling else None
    if found is None:
        return ""
    if found.rate_per_s is not None:
        load = rate(found.rate_per_s)
    else:
        by = f"by {found.by}, " if found.by else ""
        load = f"{number(found.rows)} rows {by}within {duration(found.deadline_s)}"
    base = f"for {load}"
    if found.utilization < 1:
        base += f" at {percent(found.utilization)} utilization"
    if found.workers is None:
        return f"{base}: refused: {found.refused_because}"
    count = "worker" if found.workers.value == 1 else "workers"
    ends = "" if found.kind == "measured" else f" {bracket(found.workers)}"
    return (
        f"{base}: {number(found.workers.value)} {count}{ends} "
        f"({found.kind}; largest tested {found.largest_tested:,})"
    )


def cost(test: LoadTest) -> str:
    """Return the cost of a million rows."""
    found = test.cost
    if found is None:
        return ""
    told = []
    paid = "1 worker paid" if found.workers == 1 else f"{found.workers} workers paid"
    if found.per_million is not None:
        at = test.target.rate_per_s
        where = f" at {rate(at)}" if at else ""
        if test.volume is not None:
            where = " at the largest volume"
        told.append(f"{number(found.per_million)} {found.currency} per million{where} ({paid})")
    if found.per_million_at_capacity is not None:
        unit = "" if told else f" {found.currency} per million"
        told.append(f"{number(found.per_million_at_capacity)}{unit} at capacity")
    return f"{' · '.join(told)}   prices: {found.prices}" if told else ""


def valid(test: LoadTest) -> str:
    """Return the conditions of a valid measurement: the main ones, and each that fails."""
    records = test.facts.get(RECORDS)
    told = []
    for check in test.checks:
        if check.name == "ids_not_once" and check.is_ok and records is not None:
            told.append(f"ids {number(records)} once each")
        elif check.name in SHOWN or not check.is_ok:
            told.append(describe_check(check))
    if test.estimates.harness_per_s is not None:
        told.append(f"harness {rate(test.estimates.harness_per_s)}")
    return " · ".join(told)


def last_run(test: LoadTest) -> str:
    """Return what changed since the last run."""
    last = test.compared_with
    if last is None:
        return ""
    told = []
    if last.capacity_change is not None:
        change = percent(last.capacity_change, signed=True)
        noise = ", within noise" if last.capacity_within_noise else ""
        told.append(f"capacity {number(last.passes_per_s)} ({change}{noise})")
    if last.p99_change is not None:
        noise = ", within noise" if last.p99_within_noise else ""
        change = percent(last.p99_change, signed=True)
        told.append(f"p99 {number(last.p99_ms)} ({change}{noise})")
    if last.row_change is not None:
        noise = ", within noise" if last.row_within_noise else ""
        change = percent(last.row_change, signed=True)
        told.append(f"CPU a row {number(last.row_us)} µs ({change}{noise})")
    model = "" if last.same_model else "   another model"
    return f"{last.started:%Y-%m-%d}: {', '.join(told) or 'nothing to compare'}{model}"
