"""A schema registry: schemas by id, the newest schema of a subject, and new schemas.

Confluent's client sends the requests. This module decides what an error means, and parses schemas.
Credentials stay in the properties file, which every worker reads for itself.
"""

from __future__ import annotations

import dataclasses
import json
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

import fastavro

from scoreline.transforms.kafka.properties import REGISTRY_PREFIX, parse_properties

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryError
    from confluent_kafka.schema_registry.error import OAuthTokenError

_Answer = TypeVar("_Answer")
_Value = TypeVar("_Value", int, str)
# The client's own defaults never time out, and wait up to 7 s between attempts.
_CLIENT: dict[str, Any] = {
    "timeout": 10.0,
    "max.retries": 4,  # registering a schema again gives the same id
    "retries.wait.ms": 500,  # doubled each time, then multiplied by a random number below 1
    "retries.max.wait.ms": 3500,
    "cache.latest.ttl.sec": 0,  # a newer schema may come
}
# A missing schema may appear later, because registries replicate. But bad values ask for any id.
_REFUSED_SECONDS = 60.0
_MAX_REFUSED = 10_000
_MAX_REASON = 500
_TOO_BUSY = (408, 429)
_UNAUTHORIZED = (401, 403)
_NOT_ACCEPTED = (409, 422)


class RegistryFails(OSError):
    """The registry does not answer, or refuses the request; the message has the reason."""


class RegistryAway(RegistryFails):
    """The registry does not answer now. It may answer later."""


class Registered(NamedTuple):
    """A schema in the registry."""

    schema_id: int
    schema: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Registry:
    """How to reach a registry.

    Attributes:
      url: the URL of the registry, without credentials.
      config: the path, on a worker, of the properties file with the credentials; "" for none.
    """

    url: str
    config: str = ""

    def connect(self) -> RegistryClient:
        """Return a client. It sends nothing yet.

        Raises:
          ValueError: the properties file is wrong.
          RegistryFails: a certificate cannot be read.
        """
        return RegistryClient(self)


class RegistryClient:
    """Queries a registry, and caches schemas: the schema of an id never changes."""

    def __init__(self, registry: Registry) -> None:
        """Read the credentials and make Confluent's client; see `Registry.connect`."""
        # The import takes 0.14 CPU s, so only users of a registry pay for it.
        from confluent_kafka.schema_registry import SchemaRegistryClient

        self._url = registry.url.rstrip("/")
        text = Path(registry.config).read_text("utf-8") if registry.config else ""
        settings = _read_settings(text)
        try:
            self._client = SchemaRegistryClient({**_CLIENT, **settings, "url": self._url})
        except OSError as e:
            raise RegistryFails(
                f"expected certificates at {REGISTRY_PREFIX}ssl.… in {registry.config}, got: {e}"
            ) from e
        except (ValueError, TypeError) as e:
            raise ValueError(f"{REGISTRY_PREFIX}…: {e}") from e
        # Decoders are never closed: their connections close in garbage collection.
        weakref.finalize(self, self._client.close)
        self._schemas: dict[int, Any] = {}
        self._refused: dict[int, tuple[float, str]] = {}

    def schema_of(self, schema_id: int) -> Any:
        """Return the parsed Avro schema of an id.

        Raises:
          ValueError: the registry has no schema of this id, or it is not an Avro schema.
          RegistryFails: the registry does not answer.
        """
        if schema_id in self._schemas:
            return self._schemas[schema_id]
        asked, why = self._refused.get(schema_id, (0.0, ""))
        if not why or time.monotonic() - asked > _REFUSED_SECONDS:
            try:
                self._schemas[schema_id] = self._fetch(schema_id)
                return self._schemas[schema_id]
            except ValueError as e:
                why = str(e)
            if len(self._refused) >= _MAX_REFUSED:
                self._refused.clear()
            self._refused[schema_id] = (time.monotonic(), why)
        raise ValueError(why)

    def latest(self, subject: str) -> Registered | None:
        """Return the newest schema of a subject, or None if there is no such subject.

        Raises:
          ValueError: the schema is not an Avro schema, or refers to other schemas.
          RegistryFails: the registry does not answer.
        """
        path = f"/subjects/{quote(subject, safe='')}/versions/latest"
        found = self._ask(path, self._client.get_latest_version, subject)
        if found is None:
            return None
        _check_type(found.schema)
        if found.schema.references:
            raise ValueError(f"expected a schema of subject {subject} without references to others")
        schema_id = self._require(path, found.schema_id)
        return Registered(schema_id, self._require(path, found.schema.schema_str))

    def register(self, subject: str, schema: str) -> int:
        """Add a schema to a subject, unless the subject has it, and return its id.

        Raises:
          ValueError: the registry does not accept the schema, for example as incompatible.
          RegistryFails: the registry does not answer.
        """
        from confluent_kafka.schema_registry import Schema

        path = f"/subjects/{quote(subject, safe='')}/versions"
        register, added = self._client.register_schema_full_response, Schema(schema, "AVRO")
        answer = self._ask(path, register, subject, added)
        if answer is None:
            raise RegistryFails(f"{self._url}{path}: expected a schema registry there, got 404")
        return self._require(path, answer.schema_id)

    def _fetch(self, schema_id: int) -> Any:
        path = f"/schemas/ids/{schema_id}"
        return self._parse(path, self._ask(path, self._client.get_schema, schema_id), {})

    def _parse(self, path: str, found: Schema | None, named: dict[str, Any]) -> Any:
        """Return the schema from a path, parsed, with the schemas that it refers to."""
        if found is None:
            raise ValueError(f"the schema registry has no {path.removeprefix('/')}")
        _check_type(found)
        text = self._require(path, found.schema_str)
        for reference in found.references or ():
            subject, version = str(reference.subject), reference.version or 0
            at = f"/subjects/{quote(subject, safe='')}/versions/{version}"
            other = self._ask(at, self._client.get_version, subject, version)
            self._parse(at, other.schema if other else None, named)
        try:
            return fastavro.parse_schema(json.loads(text), named_schemas=named)
        except (TypeError, KeyError, fastavro.schema.SchemaParseException) as e:
            raise ValueError(f"the schema registry has an invalid schema: {e}") from e

    def _require(self, path: str, value: _Value | None) -> _Value:
        """Return a required field of the answer from a path."""
        if value is None:
            raise RegistryAway(f"{self._url}{path}: expected a schema and its id, got neither")
        return value

    def _ask(self, path: str, call: Callable[..., _Answer], *args: Any) -> _Answer | None:
        """Return the answer to a call of the client, or None if the registry answers 404."""
        import httpx2
        from confluent_kafka.schema_registry import SchemaRegistryError
        from confluent_kafka.schema_registry.error import OAuthTokenError

        where = f"{self._url}{path}"
        try:
            return call(*args)
        except SchemaRegistryError as e:
            if e.http_status_code == 404 and e.error_code != SchemaRegistryError.UNKNOWN:
                return None
            raise _to_failure(where, e) from e
        except OAuthTokenError as e:
            raise _to_token_failure(where, e) from e
        except httpx2.InvalidURL as e:
            raise RegistryFails(f"{where}: expected a URL, got: {e}") from e
        except (httpx2.HTTPError, ValueError, TypeError, LookupError, AttributeError) as e:
            # The client does not validate answers. Missing or unexpected JSON raises any of these.
            why = f"{type(e).__name__}: {e}"[:_MAX_REASON]
            raise RegistryAway(f"{where}: expected a schema registry, got: {why}") from e


def _read_settings(text: str) -> dict[str, str]:
    """Return the client's settings in a properties file, without their prefix.

    Raises:
      ValueError: they contradict each other. The message has their names, never their values.
    """
    settings = {
        name.removeprefix(REGISTRY_PREFIX): value
        for name, value in parse_properties(text).items()
        if name.startswith(REGISTRY_PREFIX)
    }
    source = f"{REGISTRY_PREFIX}basic.auth.credentials.source"
    if settings.pop("basic.auth.credentials.source", "USER_INFO") != "USER_INFO":
        raise ValueError(f"expected {source}=USER_INFO")  # a setting of Java's client
    if any(name.startswith("bearer.auth.") for name in settings):
        source = f"{REGISTRY_PREFIX}bearer.auth.credentials.source"
        if settings.get("bearer.auth.credentials.source") != "OAUTHBEARER":
            raise ValueError(f"expected {source}=OAUTHBEARER")
        if "basic.auth.user.info" in settings:  # the client would ignore the token
            raise ValueError(f"expected {source} or {REGISTRY_PREFIX}basic.auth.…, got both")
    return settings


def _to_failure(where: str, error: SchemaRegistryError) -> Exception:
    """Return the exception for an answer with an error status."""
    status, is_known = error.http_status_code, error.error_code != error.UNKNOWN
    why = str(error.error_message or "")[:_MAX_REASON]
    if is_known and status in _NOT_ACCEPTED:
        return ValueError(f"{where}: {why}")
    is_redirect = 300 <= status < 400
    may_pass = _may_pass(status) or not is_known  # a proxy answers without the registry's JSON
    if status in _UNAUTHORIZED:
        why += (
            f". Credentials: {REGISTRY_PREFIX}basic.auth.user.info or {REGISTRY_PREFIX}"
            "bearer.auth.… in --kafka_config"
        )
    elif is_redirect:
        why = "a redirect, which is not followed. Give the URL that it leads to"
    is_final = status in _UNAUTHORIZED or is_redirect or not may_pass
    kind = RegistryFails if is_final else RegistryAway
    return kind(f"{where}: expected an answer, got {status}: {why}")


def _to_token_failure(where: str, error: OAuthTokenError) -> RegistryFails:
    """Return the exception for a failed token request."""
    import httpx2

    cause = error.__context__  # the client stores the cause only there
    if isinstance(cause, httpx2.HTTPStatusError):
        may_pass = _may_pass(cause.response.status_code)
    else:  # no answer, no JSON or no token; any other error is a refusal by OAuth's rules
        may_pass = isinstance(cause, httpx2.TransportError | ValueError | LookupError)
    return (RegistryAway if may_pass else RegistryFails)(
        f"{where}: expected a token from {REGISTRY_PREFIX}bearer.auth.issuer.endpoint.url in "
        f"--kafka_config, got: {error.message[:_MAX_REASON]}"
    )


def _may_pass(status: int) -> bool:
    return status >= 500 or status in _TOO_BUSY


def _check_type(schema: Schema) -> None:
    kind = schema.schema_type or "AVRO"
    if kind != "AVRO":
        raise ValueError(f"expected an Avro schema in the schema registry, got a {kind} schema")
