"""A schema registry and a token endpoint for tests, in memory.

The registry implements the part of Confluent's REST API that we use. The endpoint implements the
client credentials grant of OAuth 2.0 (RFC 6749, section 4.4).
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

CLUSTER, POOL = "lsrc-1", "pool-1"  # ids in Confluent Cloud, sent as headers with a token


def to_basic(user_info: str) -> str:
    """Return the Authorization header of a user and a password."""
    return "Basic " + base64.b64encode(user_info.encode()).decode()


class Request(NamedTuple):
    """An HTTP request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Service(Protocol):
    """An object that answers requests."""

    url: str

    def answer(self, request: Request) -> tuple[int, Any]:
        """Return status and JSON for a request."""


class FakeIssuer:
    """Issues tokens to one client. Only the newest token is valid.

    Attributes:
      asked: the received forms, in order.
      lifetime_s: lifetime of a token; if negative, every token has already expired.
      fails: the status of all responses; 0 for normal responses.
    """

    def __init__(self, client: str, scope: str) -> None:
        self.asked: list[dict[str, str]] = []
        self.lifetime_s = 3600
        self.fails = 0
        self.url = ""
        self._login, self._scope = to_basic(client), scope

    @property
    def token(self) -> str:
        """The newest token."""
        return f"token-{len(self.asked)}"

    def answer(self, request: Request) -> tuple[int, Any]:
        """Return status and JSON for a request."""
        form = dict(parse_qsl(request.body.decode()))
        self.asked.append(form)
        if self.fails:
            return self.fails, {"message": "the issuer is away"}
        if request.headers.get("Authorization") != self._login:
            return 401, {"error": "invalid_client", "error_description": "unknown client"}
        if form != {"grant_type": "client_credentials", "scope": self._scope}:
            return 400, {"error": "invalid_scope"}
        token = {"access_token": self.token, "token_type": "Bearer", "expires_in": self.lifetime_s}
        return 200, token


class FakeRegistry:
    """Schemas by id and by subject. Its compatibility check only detects missing fields.

    Attributes:
      asked: the received requests, in order.
      fails: the status of all responses; 0 for normal responses.
    """

    def __init__(self, user_info: str = "", issuer: FakeIssuer | None = None) -> None:
        self.asked: list[str] = []
        self.fails = 0
        self.url = ""
        self._login = to_basic(user_info) if user_info else ""
        self._issuer = issuer
        self._schemas: dict[int, dict[str, Any]] = {}
        self._subjects: dict[str, list[int]] = {}

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

    def answer(self, request: Request) -> tuple[int, Any]:
        """Return status and JSON for a request."""
        path = urlsplit(request.path).path
        self.asked.append(f"{request.method} {path}")
        if self.fails:
            return self.fails, {"error_code": 50001, "message": "the backend is away"}
        if not self._is_allowed(request.headers):
            return 401, {"error_code": 401, "message": "Unauthorized"}
        match path.strip("/").split("/"):
            case ["schemas", "ids", number] if int(number) in self._schemas:
                return 200, self._schemas[int(number)]
            case ["schemas", "ids", _]:
                return 404, {"error_code": 40403, "message": "Schema not found"}
            case ["subjects", subject, "versions"]:
                return self._post(unquote(subject), json.loads(json.loads(request.body)["schema"]))
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

    def _is_allowed(self, headers: Mapping[str, str]) -> bool:
        given = headers.get("Authorization", "")
        if self._issuer is None:
            return given == self._login
        sent = (headers.get("target-sr-cluster"), headers.get("Confluent-Identity-Pool-Id"))
        return given == f"Bearer {self._issuer.token}" and sent == (CLUSTER, POOL)

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
def serve(
    service: Service, tls: ssl.SSLContext | None = None, *, keeps_open: bool = True
) -> Iterator[None]:
    """Serve HTTP on a free loopback port.

    Args:
      service: the object that answers.
      tls: the context of https; None for http.
      keeps_open: whether a connection stays open after a request.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if keeps_open else "HTTP/1.0"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, self.headers, body)
            status, told = service.answer(request)
            content = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(content)))
            if 300 <= status < 400:
                self.send_header("Location", service.url)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815  names required by http.server

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    service.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def run_registry(
    user_info: str = "", issuer: FakeIssuer | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[FakeRegistry]:
    """Serve a registry that requires a user and password, or a token of an issuer."""
    registry = FakeRegistry(user_info, issuer)
    with serve(registry, tls):
        yield registry


@contextmanager
def run_issuer(client: str, scope: str) -> Iterator[FakeIssuer]:
    """Serve a token endpoint for one client, given as `ID:SECRET`."""
    issuer = FakeIssuer(client, scope)
    # Confluent's client closes its connection to the endpoint only in garbage collection.
    with serve(issuer, keeps_open=False):
        yield issuer
