"""The SDK worker pool of a cluster on one machine: starts Python workers when TaskManagers ask.

    python -m deploy.local.worker_pool --port 15000

Production clusters run Beam's own pool (`apache_beam.runners.worker.worker_pool_main`) beside each
TaskManager. It has three problems if all TaskManagers share one machine and one pool
(docs/decisions/0008-one-worker-pool-on-one-machine.md). Workers of two TaskManagers have the same
name, so one TaskManager stops the other's workers. It listens on every interface. It runs the first
`python` on PATH, and a job hangs for ever if that Python has no Beam.

Issue: not reported.
Seen in: Python SDK 2.77.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
from concurrent import futures

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

# The interpreter of the workers, which has Beam and this project.
PYTHON = sys.executable
_STOP_SECONDS = 5.0
_REAP_SECONDS = 2.0
_THREADS = 16
_WORKER = "deploy.local.worker"

# A worker's name is not unique; together with the connection that requested it, it is.
_Key = tuple[str, str]


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts a process per requested worker, and stops it if the same client asks for that."""

    def __init__(self) -> None:
        """Create a pool without workers."""
        self._lock = threading.Lock()
        self._workers: dict[_Key, subprocess.Popen[bytes]] = {}

    def StartWorker(  # noqa: N802
        self, request: beam_fn_api_pb2.StartWorkerRequest, context: grpc.ServicerContext
    ) -> beam_fn_api_pb2.StartWorkerResponse:
        """Start a worker, which shares the output of the pool."""
        command = [PYTHON, "-m", _WORKER, request.control_endpoint.url, request.worker_id]
        try:
            worker = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as e:
            return beam_fn_api_pb2.StartWorkerResponse(error=f"{command}: {e}")
        with self._lock:
            self._workers[context.peer(), request.worker_id] = worker
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(  # noqa: N802
        self, request: beam_fn_api_pb2.StopWorkerRequest, context: grpc.ServicerContext
    ) -> beam_fn_api_pb2.StopWorkerResponse:
        """Stop the worker of this name that this connection started, if it still runs."""
        with self._lock:
            worker = self._workers.pop((context.peer(), request.worker_id), None)
        if worker is not None:
            _stop(worker)
        return beam_fn_api_pb2.StopWorkerResponse()

    def reap(self) -> None:
        """Remove workers that have ended: a worker ends by itself if its TaskManager dies."""
        with self._lock:
            for key in [key for key, worker in self._workers.items() if worker.poll() is not None]:
                del self._workers[key]

    def stop(self) -> None:
        """Stop every worker."""
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.terminate()
        for worker in workers:
            _stop(worker)


def _stop(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    try:
        worker.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def main() -> int:
    """Serve until SIGTERM or SIGINT, then stop the workers too."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    pool = WorkerPool()
    server = grpc.server(futures.ThreadPoolExecutor(_THREADS), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(f"127.0.0.1:{args.port}")  # raises if the port is in use
    server.start()
    while not stopped.wait(_REAP_SECONDS):
        pool.reap()
    server.stop(None)
    pool.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
