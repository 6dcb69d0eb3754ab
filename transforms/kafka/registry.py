"""A schema registry, by Confluent's REST API: schemas by id, the latest of a subject, new ones.

Confluent's own client would bring authlib, cachetools and httpx for three calls; `requests` is here
anyway. Credentials stay in the clients' properties file, which every worker reads for itself.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import fastavro
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from scoreline.transforms.kafka.client import REGISTRY_PREFIX, parse_properties

_TIMEOUT_SECONDS = 10.0
# A schema that is not there may come: registries replicate. But poison asks for one in each value.
_REFUSED_SECONDS = 60.0
_MAX_REFUSED = 10_000
_RETRY = Retry(
    total=4,
    backoff_factor=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,  # registering a schema again gives the same id
    raise_on_status=False,
)


class RegistryFails(OSError):
    """The registry does not answer, or refuses to; the message says why."""


class RegistryAway(RegistryFails):
    """The registry does not answer, or not yet."""


class Registered(NamedTuple):
    """A schema as the registry has it."""

    schema_id: int
    schema: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Registry:
    """How to reach a registry.

    Attributes:
      url: where it is, without credentials.
      config: the properties file that holds them, as a worker sees it; "" for none.
    """

    url: str
    config: str = ""

    def connect(self) -> RegistryClient:
        """Return a client."""
        return RegistryClient(self)


class RegistryClient:
    """Asks a registry, and remembers schemas: those of an id never change."""

    def __init__(self, registry: Registry) -> None:
        """Take where it is and read the credentials."""
        self._url = registry.url.rstrip("/")
        text = Path(registry.config).read_text("utf-8") if registry.config else ""
        given = {
            name.removeprefix(REGISTRY_PREFIX): value
            for name, value in parse_properties(text).items()
            if name.startswith(REGISTRY_PREFIX)
        }
        self._session = requests.Session()
        self._session.headers["Content-Type"] = "application/vnd.schemaregistry.v1+json"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=_RETRY))
        if "basic.auth.user.info" in given:
            user, _, password = given["basic.auth.user.info"].partition(":")
            self._session.auth = (user, password)
        self._session.verify = given.get("ssl.ca.location", True)
        if "ssl.certificate.location" in given:
            key = given.get("ssl.key.location", given["ssl.certificate.location"])
            self._session.cert = (given["ssl.certificate.location"], key)
        self._schemas: dict[int, Any] = {}
        self._refused: dict[int, tuple[float, str]] = {}

    def schema_of(self, schema_id: int) -> Any:
        """Return the Avro schema of an id, parsed.

        Raises:
          ValueError: there is none of this id, or it is not of Avro.
          RegistryFails: the registry cannot tell.
        """
        if schema_id in self._schemas:
            return self._schemas[schema_id]
        asked, why = self._refused.get(schema_id, (0.0, ""))
        if not why or time.monotonic() - asked > _REFUSED_SECONDS:
            try:
                self._schemas[schema_id] = self._fetch(f"/schemas/ids/{schema_id}", {})
                return self._schemas[schema_id]
            except ValueError as e:
                why = str(e)
            if len(self._refused) >= _MAX_REFUSED:
                self._refused.clear()
            self._refused[schema_id] = (time.monotonic(), why)
        raise ValueError(why)

    def latest(self, subject: str) -> Registered | None:
        """Return the newest schema of a subject; None when there is no such subject.

        Raises:
          ValueError: it is not of Avro, or refers to other schemas.
          RegistryFails: the registry cannot tell.
        """
        answer = self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions/latest")
        if answer is None:
            return None
        _check_type(answer)
        if answer.get("references"):
            raise ValueError(f"the schema of subject {subject} refers to others")
        return Registered(int(answer["id"]), str(answer["schema"]))

    def register(self, subject: str, schema: str) -> int:
        """Add a schema to a subject, unless it has it, and return its id.

        Raises:
          ValueError: the registry does not take it: for example, it is not compatible with others.
          RegistryFails: the registry cannot tell.
        """
        path = f"/subjects/{quote(subject, safe='')}/versions"
        answer = self._ask("POST", path, {"schema": schema, "schemaType": "AVRO"})
        if answer is None:
            raise RegistryFails(f"{self._url}{path}: expected a schema registry there, got 404")
        return int(answer["id"])

    def _fetch(self, path: str, named: dict[str, Any]) -> Any:
        """Return the schema at a path, parsed, with those that it refers to."""
        answer = self._ask("GET", path)
        if answer is None:
            raise ValueError(f"the schema registry has no {path.removeprefix('/')}")
        _check_type(answer)
        for reference in answer.get("references") or ():
            subject, version = quote(reference["subject"], safe=""), reference["version"]
            self._fetch(f"/subjects/{subject}/versions/{version}", named)
        try:
            return fastavro.parse_schema(json.loads(answer["schema"]), named_schemas=named)
        except (TypeError, KeyError, fastavro.schema.SchemaParseException) as e:
            raise ValueError(f"the schema registry has an invalid schema: {e}") from e

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any] | None:
        """Return what the registry answers; None when it has no such thing."""
        where = f"{self._url}{path}"
        try:
            answer = self._session.request(method, where, json=body, timeout=_TIMEOUT_SECONDS)
            told = answer.json() if answer.content else {}
        except (requests.RequestException, ValueError) as e:
            raise RegistryAway(f"{where}: expected a schema registry, got: {e}") from e
        if answer.status_code == 404:
            return None
        if answer.ok and isinstance(told, dict):
            return told
        why = told.get("message", "") if isinstance(told, dict) else ""
        if answer.status_code in (409, 422):
            raise ValueError(f"{where}: {why}")
        if answer.status_code in (401, 403):
            why += f". Credentials: {REGISTRY_PREFIX}basic.auth.user.info in --kafka_config"
        kind = RegistryAway if answer.status_code >= 500 else RegistryFails
        raise kind(f"{where}: expected an answer, got {answer.status_code}: {why}")


def _check_type(answer: dict[str, Any]) -> None:
    kind = answer.get("schemaType") or "AVRO"
    if kind != "AVRO":
        raise ValueError(f"expected a schema of Avro in the schema registry, got one of {kind}")
