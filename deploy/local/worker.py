"""A Python worker of the local pool: `python -m deploy.local.worker CONTROL_ENDPOINT WORKER_ID`."""

from __future__ import annotations

import importlib
import logging
import sys

from scoreline.transforms.worker.lean_beam import import_beam


def prepare() -> None:
    """Import what every worker needs.

    A worker of a pool does not get the job's options, and so does not import its plugins.
    """
    import_beam()
    importlib.import_module("scoreline.transforms.worker.sampling")


def run_worker(control_endpoint: str, worker_id: str) -> None:
    """Run a worker in this process until its runner disconnects."""
    prepare()
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    logging.basicConfig(level=logging.WARNING)
    SdkHarness(control_endpoint, worker_id=worker_id).run()


if __name__ == "__main__":
    run_worker(*sys.argv[1:])
