"""A client of Flink's REST interface: jobs, their states and failures, slots, cancelling."""

from __future__ import annotations

from typing import Any, NamedTuple

import requests

_TIMEOUT_SECONDS = 10.0
ENDED = ("FINISHED", "FAILED", "CANCELED")


class Slots(NamedTuple):
    """The size of a cluster."""

    task_managers: int
    total: int
    free: int


class Savepoint(NamedTuple):
    """The location of a savepoint, or the Java stack trace that says why there is none."""

    location: str
    failure: str


class Failure(NamedTuple):
    """A failure of a job: its time, in ms since 1970, and its stack trace."""

    at_ms: int
    text: str


class FlinkRest:
    """A JobManager's REST interface. Every method raises OSError if it does not answer."""

    def __init__(self, master: str) -> None:
        """Take `host:port` or an URL."""
        address = master.strip().rstrip("/")
        self.url = address if "://" in address else f"http://{address}"
        self._session = requests.Session()

    def slots(self) -> Slots:
        """Return the number of TaskManagers and slots."""
        found = self._get("overview")
        return Slots(found["taskmanagers"], found["slots-total"], found["slots-available"])

    def version(self) -> str:
        """Return Flink's version."""
        return str(self._get("config")["flink-version"])

    def job_ids(self, name: str) -> list[str]:
        """Return the ids of the jobs with a name, ended jobs included."""
        return [job["jid"] for job in self._get("jobs/overview")["jobs"] if job["name"] == name]

    def jobs(self) -> list[tuple[str, str]]:
        """Return the names and states of all jobs, ended jobs included."""
        return [(job["name"], job["state"]) for job in self._get("jobs/overview")["jobs"]]

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job's state and its vertices with their counts.

        Raises:
          LookupError: the JobManager does not have it.
        """
        return self._get(f"jobs/{job_id}")

    def root_exception(self, job_id: str) -> str:
        """Return why a job failed; "" if it did not."""
        found = self._get(f"jobs/{job_id}/exceptions")
        return str(found.get("root-exception") or "")

    def newest_failure(self, job_id: str, since_ms: int) -> Failure | None:
        """Return the newest failure of a job after a time; Flink may have restarted it since."""
        found = self._get(f"jobs/{job_id}/exceptions").get("exceptionHistory") or {}
        failures = [
            Failure(int(entry["timestamp"]), str(entry.get("stacktrace") or ""))
            for entry in found.get("entries", ())
        ]
        newest = max(failures, default=None)
        return newest if newest is not None and newest.at_ms > since_ms else None

    def cancel(self, job_id: str) -> None:
        """Request the cancellation of a job."""
        self._check(
            self._session.patch(
                f"{self.url}/v1/jobs/{job_id}", params={"mode": "cancel"}, timeout=_TIMEOUT_SECONDS
            )
        )

    def stop(self, job_id: str) -> str:
        """Request a savepoint and then the end of a job; return the request's id."""
        answer = self._check(
            self._session.post(
                f"{self.url}/v1/jobs/{job_id}/stop", json={"drain": False}, timeout=_TIMEOUT_SECONDS
            )
        )
        return str(answer.json()["request-id"])

    def savepoint(self, job_id: str, request_id: str) -> Savepoint | None:
        """Return the result of a request for a savepoint; None while it is in progress."""
        found = self._get(f"jobs/{job_id}/savepoints/{request_id}")
        if found["status"]["id"] != "COMPLETED":
            return None
        done = found["operation"]
        failure = done.get("failure-cause", {}).get("stack-trace", "")
        return Savepoint(str(done.get("location", "")), str(failure))

    def metric(self, path: str, name: str) -> str | None:
        """Return the value of a metric of `jobs/…/vertices/…/subtasks`; None if it has none yet."""
        found = self._get(f"{path}/metrics?get={name}")
        return str(found[0]["value"]) if found and "value" in found[0] else None

    def _get(self, path: str) -> Any:
        return self._check(
            self._session.get(f"{self.url}/v1/{path}", timeout=_TIMEOUT_SECONDS)
        ).json()

    def _check(self, response: requests.Response) -> requests.Response:
        if response.status_code == requests.codes.not_found:
            raise LookupError(f"{response.url}: {response.text[:200]}")
        response.raise_for_status()  # an OSError
        return response
