"""A worker process of Beam: `python -m scoreline.transforms.worker.main`.

It is Beam's own (`apache_beam.runners.worker.sdk_worker_main`), and takes the same environment
variables, but it imports a lean Beam.
"""

from __future__ import annotations

import sys

from scoreline.transforms.worker.lean_beam import import_beam


def main() -> None:
    """Run a worker until its runner disconnects."""
    import_beam()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
