"""A schema registry for tests: what is used of Confluent's documented REST API, in memory."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class FakeRegistry:
    """Schemas by id and by subject. Of compatibility it knows only whether fields are left out.

    Attributes:
      asked: the requests that came, in order.
      fails: the status that all requests are answered with; 0 for none.
    """

    def __init__(self, user_info: str = "") -> None:
        self.asked: list[str] = []
        self.fails = 0
        self._login = "Basic " + base64.b64encode(user_info.encode()).decode() if user_info else ""
        self._schemas: dict[int, dict[str, Any]] = {}
        self._subjects: dict[str, list[int]] = {}
        self.url = ""

    def add(self, subject: str, schema: Any, **more: Any) -> int:
        """Register a schema and return its id."""
        held = {"schema": json.dumps(schema), **more}
        known = [i for i, other in self._schemas.items() if other == held]
        schema_id = known[0] if known else len(self._schemas) + 101
        self._schemas[schema_id] = held
        versions = self._subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return schema_id

    def answer(self, method: str, path: str, body: Any, login: str) -> tuple[int, Any]:
        """Return status and JSON for a request."""
        self.asked.append(f"{method} {path}")
        if self.fails:
            return self.fails, {"error_code": 50001, "message": "the backend is away"}
        if login != self._login:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        match path.strip("/").split("/"):
            case ["schemas", "ids", number] if int(number) in self._schemas:
                return 200, self._schemas[int(number)]
            case ["schemas", "ids", _]:
                return 404, {"error_code": 40403, "message": "Schema not found"}
            case ["subjects", subject, "versions"]:
                return self._post(unquote(subject), json.loads(body["schema"]))
            case ["subjects", subject, "versions", version]:
                versions = self._subjects.get(unquote(subject))
                if not versions:
                    return 404, {"error_code": 40401, "message": "Subject not found"}
                at = len(versions) if version == "latest" else int(version)
                schema_id = versions[at - 1]
                return 200, {
                    "subject": unquote(subject),
                    "version": at,
                    "id": schema_id,
                    **self._schemas[schema_id],
                }
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _post(self, subject: str, schema: Any) -> tuple[int, Any]:
        names = {field["name"] for field in schema["fields"] if "default" not in field}
        for schema_id in self._subjects.get(subject, ()):
            held = json.loads(self._schemas[schema_id]["schema"])
            if not names <= {field["name"] for field in held["fields"]}:
                return 409, {
                    "error_code": 409,
                    "message": "Schema being registered is incompatible",
                }
        return 200, {"id": self.add(subject, schema)}


@contextmanager
def run_registry(user_info: str = "") -> Iterator[FakeRegistry]:
    """Serve a registry on a free port of the loopback."""
    registry = FakeRegistry(user_info)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            login = self.headers.get("Authorization", "")
            status, told = registry.answer(self.command, self.path, body, login)
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815  http.server wants these names

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
