"""Reads a profile from a YAML file and from flags, and reports all its problems at once."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping
from typing import Any

from scoreline.pipelines.load_test import tested
from scoreline.pipelines.load_test.driver.ids import MAX_RECORDS
from scoreline.pipelines.load_test.fields import (
    Field,
    FieldReader,
    is_mapping,
    make_field,
)
from scoreline.pipelines.load_test.judge.search import PRECISIONS
from scoreline.pipelines.load_test.profile import (
    ONLY,
    SHAPES,
    Need,
    Prices,
    Profile,
    Records,
    Trace,
)
from scoreline.pipelines.load_test.read_slos import SLO_NAMES, read_slos
from scoreline.pipelines.options.load_test import LoadTestSettings
from scoreline.pipelines.options.problems import Problems

MAX_WORKERS, MAX_PARTITIONS, MAX_VOLUME, MAX_SEED = 10_000, 10_000, 100_000, 2**32 - 1
_MAX_RATE = 1e9
_KEYS = (
    *("stream", "batch", "records", "partitions", "workers", "scale_command", "shape", "trace"),
    *("seed", "start_rate_per_s", "soak_s", "slos", "volumes", "prices", "need", "precision"),
    *("budget_s", "output"),
)
# Limits and prices that stand at the top, and where they belong.
_ELSEWHERE = {name: f"slos.{name}" for name in SLO_NAMES} | {
    "worker_hour": "prices.worker_hour",
    "currency": "prices.currency",
}
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\Z", re.ASCII)
_SUFFIXES = (".parquet", ".jsonl", ".json", ".tfrecord", ".tfrecord.gz")
_RECORDS = "a file or folder of .parquet, .jsonl or .tfrecord files, or topic:NAME"


def read_profile(settings: LoadTestSettings, problems: Problems) -> Profile:
    """Return the profile of a command line: its file, and the flags that override the file.

    Raises:
      BadOptions: something is wrong; it lists everything that is.
    """
    reader = FieldReader(settings.profile, problems)
    top = reader.load() if settings.profile else None
    if settings.profile:
        problems.check()
    keys = reader.section(top, "", _KEYS, _ELSEWHERE)
    for key, text in settings.overrides.items():
        keys[key] = make_field(f"--{key}", text, is_list=key == "workers")
    mode, argv = _read_tested(reader, keys, settings)
    _refuse_other_mode(reader, keys, mode)
    slos = read_slos(reader, keys.get("slos"), settings.slos, mode)
    profile = Profile(
        source=settings.profile,
        mode=mode,
        argv=argv,
        records=_read_records(reader, keys.get("records")),
        scale_command=_read_scale_command(reader, keys.get("scale_command")),
        trace=_read_trace(reader, keys.get("trace")),
        slos=slos,
        prices=_read_prices(reader, keys.get("prices")),
        need=_read_need(reader, keys.get("need"), mode),
        write_scaling=settings.write_scaling,
        **_read_plain(reader, keys),
    )
    _check_together(profile, keys, problems)
    if settings.write_scaling and mode == "batch":
        problems.add(
            "--write_scaling: expected a stream, got a batch, which ends by itself; the line "
            "`need` of its page has the workers for a deadline. Leave it out"
        )
    problems.check()
    return profile


def _read_plain(reader: FieldReader, keys: Mapping[str, Field]) -> dict[str, Any]:
    """Return the values that are numbers, lists of them, or words; a missing one has no key."""
    get = keys.get
    rate = "a rate per second above 0"
    found = {
        "partitions": reader.whole(
            get("partitions"), f"a whole number from 1 to {MAX_PARTITIONS:,}", 1, MAX_PARTITIONS
        ),
        "workers": _read_counts(reader, get("workers"), "workers", MAX_WORKERS),
        "volumes": _read_counts(reader, get("volumes"), "multiples of the input", MAX_VOLUME),
        "shape": reader.choice(get("shape"), SHAPES),
        "seed": reader.whole(get("seed"), f"a whole number from 0 to {MAX_SEED:,}", 0, MAX_SEED),
        "start_rate_per_s": reader.number(get("start_rate_per_s"), rate, above=0, high=_MAX_RATE),
        "soak_s": reader.number(get("soak_s"), "a number of seconds above 0", above=0),
        "precision": reader.choice(get("precision"), PRECISIONS),
        "budget_s": reader.number(get("budget_s"), "a number of seconds above 0", above=0),
        "output": _read_output(reader, get("output")),
    }
    return {key: value for key, value in found.items() if value is not None}


def _read_tested(
    reader: FieldReader, keys: Mapping[str, Field], settings: LoadTestSettings
) -> tuple[str, tuple[str, ...]]:
    """Return the tested command and its argv."""
    given = [mode for mode in tested.MODES if mode in keys]
    if settings.tested and given:
        reader.problems.add(
            f"{keys[given[0]].name}: expected the tested command in the profile or on the command "
            f"line, got both; leave out `{settings.tested[0]} …`"
        )
        return given[0], ()
    if settings.tested:
        mode, *argv = settings.tested
        if mode in tested.MODES:
            return mode, tested.read_arguments(mode, argv, reader.problems)
        reader.problems.add(f"expected `stream` or `batch` and its flags, got '{mode}'")
        return "stream", ()
    if len(given) != 1:
        got = "both" if given else "neither"
        reader.problems.add(
            f"{reader.file or 'load-test'}: expected `stream` or `batch` with the flags of that "
            f"command, got {got}"
        )
        return (given or ["stream"])[0], ()
    return given[0], tested.read_section(reader, given[0], keys[given[0]])


def _refuse_other_mode(reader: FieldReader, keys: Mapping[str, Field], mode: str) -> None:
    for other, names in ONLY.items():
        for name, reason in names.items():
            if other != mode and name in keys:
                reader.problems.add(f"{keys[name].name}: only for a {other}: {reason}")
    if mode == "stream" and "records" not in keys:
        where = f"{reader.file}: records" if reader.file else "--records"
        reader.problems.add(f"{where}: expected what is sent: {_RECORDS}")


def _read_counts(
    reader: FieldReader, field: Field | None, what: str, high: int
) -> tuple[int, ...] | None:
    """Return different whole numbers in ascending order."""
    expected = f"whole numbers of {what} from 1 to {high:,}, ascending, as [1, 2, 4]"
    items = reader.items(field, expected)
    if field is None or items is None:
        return None
    counts = [reader.whole(item, f"a whole number from 1 to {high:,}", 1, high) for item in items]
    if None in counts:
        return None
    whole = [count for count in counts if count is not None]
    if whole != sorted(set(whole)):
        reader.problems.add(f"{field.name}: expected {expected}, got {whole}")
        return None
    return tuple(whole)


def _read_output(reader: FieldReader, field: Field | None) -> str | None:
    path = reader.text(field, "a folder")
    if field is None or path is None:
        return path
    if "://" in path or (os.path.exists(path) and not os.path.isdir(path)):
        reader.problems.add(f"{field.name}: expected a folder of this machine, got {path}")
    return path


def _read_records(reader: FieldReader, field: Field | None) -> Records | None:
    text = reader.text(field, _RECORDS)
    if field is None or text is None:
        return None
    kind, _, topic = text.partition(":")
    if kind == "topic" and topic:
        return Records(path=topic, format="topic")
    if os.path.isdir(text) or (os.path.exists(text) and text.endswith(_SUFFIXES)):
        return Records(path=text, format="files")
    missing = "" if os.path.exists(text) else ", which does not exist"
    reader.problems.add(f"{field.name}: expected {_RECORDS}, got '{text}'{missing}")
    return None


def _read_scale_command(reader: FieldReader, field: Field | None) -> tuple[str, ...]:
    expected = "a list of arguments with {workers}, as [kubectl, scale, …, --replicas={workers}]"
    items = reader.items(field, f"{expected}; no shell runs it")
    if field is None or items is None:
        return ()
    parts = [reader.text(item, "an argument") for item in items]
    argv = tuple(part for part in parts if part is not None)
    if len(argv) == len(parts) and not any("{workers}" in part for part in argv[1:]):
        reader.problems.add(f"{field.name}: expected {expected}, got none with {{workers}}")
    return argv


def _read_trace(reader: FieldReader, field: Field | None) -> Trace | None:
    keys = reader.section(field, "trace", ("file", "column"))
    if field is None or not is_mapping(field):
        return None
    file, column = reader.text(keys.get("file")), reader.text(keys.get("column"))
    for key in ("file", "column"):
        if key not in keys:
            reader.problems.add(f"{field.name}.{key}: expected a value, got none")
    if file and not os.path.exists(file):
        reader.problems.add(f"{keys['file'].name}: expected a Parquet file or folder, got {file}")
    return Trace(file=file, column=column) if file and column else None


def _read_prices(reader: FieldReader, field: Field | None) -> Prices | None:
    """Return the prices of the profile, or of the file that it names."""
    if field is None:
        return None
    source, path = "profile", "prices"
    if not is_mapping(field):
        file = reader.text(field, "currency and worker_hour, or a YAML file with them")
        if file is None:
            return None
        if not os.path.isfile(file):
            reader.problems.add(
                f"{field.name}: expected currency and worker_hour, or a YAML file with them, got "
                f"{file}, which is no file"
            )
            return None
        reader = FieldReader(file, reader.problems)
        loaded = reader.load()
        if loaded is None:
            return None
        field, source, path = loaded, os.path.basename(file), ""
    keys = reader.section(field, path, ("currency", "worker_hour"))
    for key in ("currency", "worker_hour"):
        if key not in keys and is_mapping(field):
            reader.problems.add(f"{field.name}: {key}: expected a value, got none")
    currency = reader.text(keys.get("currency"), "a currency, as EUR")
    price = reader.number(keys.get("worker_hour"), "a price of at least 0", low=0)
    if currency is None or price is None:
        return None
    return Prices(currency=currency, worker_hour=price, source=source)


def _read_need(reader: FieldReader, field: Field | None, mode: str) -> Need | None:
    known = ("rate_per_s",) if mode == "stream" else ("rows", "from", "by")
    keys = reader.section(field, "need", known)
    if field is None or not is_mapping(field):
        return None
    for key in known:
        if key not in keys and key != "from":
            reader.problems.add(f"{field.name}.{key}: expected a value, got none")
    if mode == "stream":
        rate = reader.number(
            keys.get("rate_per_s"), "a rate per second above 0", above=0, high=_MAX_RATE
        )
        return Need(rate_per_s=rate)
    rows = reader.whole(keys.get("rows"), "a whole number of at least 1", 1, 10**15)
    begin = _read_time(reader, keys.get("from")) if "from" in keys else dt.time(0, 0)
    return Need(rows=rows, begin=begin, by=_read_time(reader, keys.get("by")))


def _read_time(reader: FieldReader, field: Field | None) -> dt.time | None:
    expected = "a time of day, as 06:00"
    text = reader.text(field, expected)
    match = _TIME.match(text or "")
    if field is not None and text is not None and match is None:
        reader.refuse(field, expected)
    return dt.time(int(match[1]), int(match[2])) if match else None


def _check_together(profile: Profile, keys: Mapping[str, Field], problems: Problems) -> None:
    """Add what contradicts each other."""
    trace, shape = keys.get("trace"), keys.get("shape")
    if profile.shape == "trace" and trace is None and shape is not None:
        problems.add(f"{shape.name}: trace needs `trace` with file and column")
    if trace is not None and profile.shape != "trace":
        problems.add(f"{trace.name}: needs `shape: trace`, got {profile.shape}")
    if "slos" in keys and profile.slos.cost_per_million is not None and "prices" not in keys:
        problems.add(f"{keys['slos'].name}.cost_per_million: needs prices, got none")
    _check_soak(profile, keys, problems)
    budget = keys.get("budget_s")
    if budget and profile.budget_s is not None and profile.budget_s < 2 * profile.window_s:
        problems.add(
            f"{budget.name}: expected at least {2 * profile.window_s:g}, two windows of the "
            f"precision {profile.precision}, got {profile.budget_s:g}"
        )


def _check_soak(profile: Profile, keys: Mapping[str, Field], problems: Problems) -> None:
    """Add what a soak contradicts: it is longer than other windows, and its records are counted."""
    if profile.soak_s is None:
        return
    name, soak_s, rate = keys["soak_s"].name, profile.soak_s, profile.slos.rate_per_s
    if soak_s < 2 * profile.window_s:
        problems.add(
            f"{name}: expected at least {2 * profile.window_s:g}, two windows of the precision "
            f"{profile.precision}, got {soak_s:g}"
        )
    if rate is not None and rate * soak_s > MAX_RECORDS:
        problems.add(
            f"{name}: expected at most {MAX_RECORDS / rate:,.0f} s at {rate:g}/s, because a test "
            f"follows at most {MAX_RECORDS:,} records of a stream, got {soak_s:g}"
        )
    if profile.budget_s is not None and soak_s >= profile.budget_s:
        problems.add(f"{name}: expected less than budget_s, {profile.budget_s:g}, got {soak_s:g}")
