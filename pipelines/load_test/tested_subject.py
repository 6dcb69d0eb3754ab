"""What a load test says about the command that it tested: its model, its runner, its cost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import scoreline
from scoreline.pipelines.load_test.judge.cost import Cost, cost_of
from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.result import Subject
from scoreline.pipelines.load_test.tested import runner_of, settings_of

_GIT_S = 5.0


def describe_subject(profile: Profile, digest: str, partitions: int, shape: str) -> Subject:
    """Return what was tested.

    Args:
      profile: the profile.
      digest: the model's digest.
      partitions: partitions of the topic, or of the dataset at volume 1.
      shape: shape of the arrivals; "offline" for a batch.
    """
    path = settings_of(profile.mode, profile.argv).model.path
    return Subject(
        mode=profile.mode,
        runner=runner_of(profile.mode, profile.argv),
        model="/".join(Path(path).parts[-2:]),
        model_digest=digest,
        version=scoreline.__version__,
        commit=_commit(),
        partitions=partitions,
        workers=profile.workers[0],
        shape=shape,
        options=profile.argv,
    )


def describe_cost(
    profile: Profile, rate_per_s: float | None, capacity_per_s: float | None
) -> Cost | None:
    """Return the cost of a million rows; None without prices."""
    prices, workers = profile.prices, profile.workers[0]
    if prices is None:
        return None
    return cost_of(
        workers,
        prices.worker_hour,
        currency=prices.currency,
        prices=prices.source,
        rate_per_s=rate_per_s,
        capacity_per_s=capacity_per_s,
    )


def _commit() -> str:
    """Return the commit of a checkout of Scoreline; "" if it is installed otherwise."""
    folder = Path(scoreline.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return ""
    argv = ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
