"""Values whose schemas are in a registry; the one here speaks Confluent's documented REST API."""

from __future__ import annotations

import datetime
import io
import ipaddress
import json
import ssl

import fastavro
import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scoreline.transforms.kafka import registry as schema_registry
from scoreline.transforms.kafka.client import Connection
from scoreline.transforms.kafka.decode import DecodeSpec, decode_batch
from scoreline.transforms.kafka.properties import parse_properties
from scoreline.transforms.kafka.registry import Registry, RegistryAway, RegistryFails
from tests.registry import CLUSTER, POOL, run_issuer, run_registry, serve


def record(*fields, name="Row"):
    return {"type": "record", "name": name, "fields": list(fields)}


ID = {"name": "id", "type": "long"}
OLD = record(ID, {"name": "a", "type": "float"})
NEW = record(ID, {"name": "a", "type": "double"}, {"name": "b", "type": "int", "default": 7})
COLUMNS = pa.schema([("id", pa.int64()), ("a", pa.float64()), ("b", pa.int32())])


@pytest.fixture
def registry():
    with run_registry() as registry:
        yield registry


def to_value(schema_id, schema, row):
    stream = io.BytesIO()
    stream.write(b"\0" + schema_id.to_bytes(4, "big"))
    fastavro.schemaless_writer(stream, schema, row)
    return stream.getvalue()


def decode(registry, values, schema=NEW, config=""):
    spec = DecodeSpec(
        format="avro",
        schema=COLUMNS,
        avro_schema=json.dumps(schema),
        registry=Registry(url=registry.url, config=config),
    )
    raw = pa.RecordBatch.from_pydict({"_value": values})
    return decode_batch(raw, spec.make(), COLUMNS)


def test_each_value_is_read_by_the_schema_it_was_written_with(registry):
    old, new = registry.add("t-value", OLD), registry.add("t-value", NEW)
    values = [to_value(old, OLD, {"id": i, "a": i / 2}) for i in range(3)]
    values += [to_value(new, NEW, {"id": i, "a": i / 2, "b": i}) for i in range(3, 6)]
    decoded = decode(registry, values)
    assert decoded.dead is None
    assert decoded.batch.drop_columns(["_value"]).to_pylist() == [
        {"id": i, "a": i / 2, "b": 7 if i < 3 else i} for i in range(6)
    ]
    assert registry.asked == [f"GET /schemas/ids/{old}", f"GET /schemas/ids/{new}"]


def test_a_value_whose_schema_is_unknown_or_does_not_fit_costs_itself(registry):
    new = registry.add("t-value", NEW)
    other = registry.add("other-value", record({"name": "id", "type": "string"}))
    no_avro = registry.add("json-value", {"type": "object"}, schemaType="JSON")
    good = [to_value(new, NEW, {"id": i, "a": 0.0, "b": 0}) for i in range(8)]
    bad = [
        to_value(9999, NEW, {"id": 1, "a": 0.0, "b": 0}),
        b"\0\0",
        b"{}....",
        to_value(other, record({"name": "id", "type": "string"}), {"id": "x"}),
        to_value(no_avro, NEW, {"id": 1, "a": 0.0, "b": 0}),
        good[0] + b"\0",
    ]
    decoded = decode(registry, [*good[:4], *bad, *good[4:]])
    assert decoded.batch["id"].to_pylist() == list(range(8))
    assert list(decoded.dead.rows) == list(range(4, 10))
    for reason, told in zip(
        decoded.dead.reasons,
        (
            "has no schemas/ids/9999",
            "Confluent's header",
            "got 7b 7d 2e 2e 2e",
            f"got schema {other}: ",
            "got a JSON schema",
            "got 1 more bytes",
        ),
        strict=True,
    ):
        assert told in reason, reason
    assert len(registry.asked) == len(set(registry.asked)), "the registry is asked once for an id"


def test_schemas_that_refer_to_others_are_put_together(registry):
    registry.add("point", record({"name": "x", "type": "double"}, name="Point"))
    written = record(ID, {"name": "a", "type": "double"}, {"name": "at", "type": "Point"})
    reference = {"name": "Point", "subject": "point", "version": 1}
    writer = registry.add("t-value", written, references=[reference])
    whole = json.loads(
        json.dumps(written).replace(
            '"Point"', json.dumps(record({"name": "x", "type": "double"}, name="Point"))
        )
    )
    value = to_value(writer, whole, {"id": 5, "a": 0.5, "at": {"x": 1.0}})
    decoded = decode(registry, [value])
    assert decoded.dead is None
    assert decoded.batch["id"].to_pylist() == [5]
    with pytest.raises(ValueError, match="without references to others"):
        Registry(url=registry.url).connect().latest("t-value")


def test_a_registry_that_is_away_is_no_dead_letter(registry, monkeypatch):
    value = to_value(registry.add("t-value", NEW), NEW, {"id": 1, "a": 0.0, "b": 0})
    monkeypatch.setitem(schema_registry._CLIENT, "max.retries", 2)
    monkeypatch.setitem(schema_registry._CLIENT, "retries.wait.ms", 0)
    registry.fails = 503
    with pytest.raises(RegistryAway, match="got 503: the backend is away"):
        decode(registry, [value])
    assert len(registry.asked) == 3, "it is asked again before that"


def test_latest_and_registered_schemas(registry):
    client = Registry(url=registry.url + "/").connect()
    assert client.latest("scores/1-value") is None
    schema_id = client.register("scores/1-value", json.dumps(OLD))
    assert client.register("scores/1-value", json.dumps(OLD)) == schema_id
    assert client.latest("scores/1-value").schema_id == schema_id
    newer = client.register("scores/1-value", json.dumps(NEW))
    found = client.latest("scores/1-value")
    assert (found.schema_id, json.loads(found.schema)) == (newer, NEW), "it is not remembered"
    incompatible = record(ID, {"name": "z", "type": "long"})
    with pytest.raises(ValueError, match="Schema being registered is incompatible"):
        client.register("scores/1-value", json.dumps(incompatible))


def test_credentials_come_from_the_file_and_go_to_the_registry_only(tmp_path):
    config = tmp_path / "client.properties"
    config.write_text("schema.registry.basic.auth.user.info=me:pass:word\nclient.id=c\n")
    with run_registry("me:pass:word") as registry:
        registry.add("t-value", NEW)
        spec = Registry(url=registry.url, config=str(config))
        assert spec.connect().latest("t-value")
        with pytest.raises(RegistryFails, match=r"401.*schema\.registry\.basic\.auth") as e:
            Registry(url=registry.url).connect().latest("t-value")
    assert "pass" not in repr(spec) + str(e.value)
    settings = Connection(brokers="h:1", config=str(config)).settings()
    assert settings["client.id"] == "c"
    assert not any("registry" in name for name in settings)
    with pytest.raises(ValueError, match=r"line 1: expected schema\.registry") as e:
        parse_properties("schema.registry.basic.auth.user=me:hidden")
    assert "hidden" not in str(e.value)


OAUTH = {
    "credentials.source": "OAUTHBEARER",
    "issuer.endpoint.url": "",
    "client.id": "scorer",
    "client.secret": "hidden",
    "scope": "schemas",
    "logical.cluster": CLUSTER,
    "identity.pool.id": POOL,
}


def write_oauth(path, issuer_url, **other):
    given = {**OAUTH, "issuer.endpoint.url": issuer_url} | {
        name.replace("_", "."): value for name, value in other.items()
    }
    lines = [f"schema.registry.bearer.auth.{name}={value}" for name, value in given.items()]
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def issuer():
    with run_issuer("scorer:hidden", "schemas") as issuer:
        yield issuer


@pytest.fixture
def one_attempt(monkeypatch):
    monkeypatch.setitem(schema_registry._CLIENT, "max.retries", 0)


def test_a_token_of_the_issuer_opens_the_registry_and_is_renewed_when_it_is_old(issuer, tmp_path):
    config = write_oauth(tmp_path / "client.properties", issuer.url)
    with run_registry(issuer=issuer) as registry:
        schema_id = registry.add("t-value", NEW)
        client = Registry(url=registry.url, config=config).connect()
        assert not issuer.asked
        assert client.latest("t-value").schema_id == schema_id
        assert client.register("t-value", json.dumps(OLD)) != schema_id
        assert client.schema_of(schema_id)["name"] == "Row"
        assert issuer.asked == [{"grant_type": "client_credentials", "scope": "schemas"}]

        issuer.lifetime_s = -10
        client = Registry(url=registry.url, config=config).connect()
        for _ in range(3):
            assert client.latest("t-value")
        assert len(issuer.asked) == 1 + 3, "a token that is old is not sent"

        with pytest.raises(RegistryFails, match=r"401.*schema\.registry\.bearer\.auth") as e:
            Registry(url=registry.url).connect().latest("t-value")
        assert type(e.value) is RegistryFails


def test_an_issuer_that_refuses_is_final_and_one_that_is_away_may_come_back(
    issuer, tmp_path, one_attempt
):
    def why(kind, url=issuer.url, **other):
        config = write_oauth(tmp_path / "client.properties", url, **other)
        value = to_value(7, NEW, {"id": 1, "a": 0.0, "b": 0})
        with pytest.raises(RegistryFails, match="expected a token") as e:
            decode(registry, [value], config=config)
        assert type(e.value) is kind
        assert "hidden" not in str(e.value)
        return str(e.value)

    with run_registry(issuer=issuer) as registry:
        assert "invalid_client" in why(RegistryFails, client_secret="wrong")
        assert "invalid_scope" in why(RegistryFails, scope="other")
        why(RegistryAway, "http://127.0.0.1:1")
        issuer.fails = 503
        assert "503" in why(RegistryAway)
        issuer.fails = 429
        why(RegistryAway)
        issuer.fails = 200  # without a token
        why(RegistryAway)
        assert not registry.asked


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["bearer.auth.client.id=i"], "bearer.auth.credentials.source=OAUTHBEARER"),
        (["bearer.auth.credentials.source=CUSTOM"], "expected .*source=OAUTHBEARER"),
        (
            ["bearer.auth.credentials.source=OAUTHBEARER", "bearer.auth.logical.cluster=c"],
            "bearer.auth.client.secret",
        ),
        (
            ["bearer.auth.credentials.source=OAUTHBEARER", "basic.auth.user.info=me:hidden"],
            "got both",
        ),
        (["basic.auth.user.info=hidden"], "{username}:{password}"),
        (["basic.auth.credentials.source=SASL_INHERIT"], "source=USER_INFO"),
        (["url=http://me:hidden@h"], "url is set by --schema_registry"),
        (["ssl.ca.location=/none/ca.pem"], r"ssl\.….*No such file"),
    ],
)
def test_contradicting_settings_are_reported_before_the_first_request(tmp_path, lines, told):
    config = tmp_path / "client.properties"
    config.write_text("\n".join(f"schema.registry.{line}" for line in lines))
    with pytest.raises((ValueError, RegistryFails), match=told) as e:
        Registry(url="http://127.0.0.1:1", config=str(config)).connect()
    assert "hidden" not in str(e.value)


def test_a_server_that_is_no_registry_is_reported(one_attempt):
    with pytest.raises(RegistryAway, match="expected a schema registry"):
        Registry(url="http://127.0.0.1:1").connect().latest("s")


class Answers:
    """Gives the same answer to each request."""

    def __init__(self, status, content):
        self.given, self.asked, self.url = (status, content), [], ""

    def answer(self, request):
        self.asked.append(request.path)
        return self.given


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (404, b"<html>not found</html>", RegistryAway),
        (200, b"<html>sign in</html>", RegistryAway),
        (200, b"", RegistryAway),
        (200, b"[]", RegistryAway),
        (200, b"{}", RegistryAway),
        (200, b"3", RegistryAway),
        (429, b"{}", RegistryAway),
        (409, b"<html>conflict</html>", RegistryAway),
        (302, b"", RegistryFails),
        (403, b"<html>forbidden</html>", RegistryFails),
        (400, b"{}", RegistryFails),
    ],
)
def test_an_answer_that_no_registry_gives_is_neither_a_dead_letter_nor_no_subject(
    status, content, kind, tmp_path, one_attempt
):
    config = tmp_path / "client.properties"
    config.write_text("schema.registry.basic.auth.user.info=me:hidden\n")
    service = Answers(status, content)
    with serve(service):
        client = Registry(url=service.url, config=str(config)).connect()
        value = to_value(7, NEW, {"id": 1, "a": 0.0, "b": 0})
        for ask in (
            lambda: decode(service, [value], config=str(config)),
            lambda: client.latest("s"),
            lambda: client.register("s", json.dumps(NEW)),
        ):
            with pytest.raises(RegistryFails) as e:
                ask()
            assert type(e.value) is kind
            assert service.url in str(e.value)
            assert "hidden" not in str(e.value)
        assert "/" not in service.asked, "no redirect is followed"


def make_certificates(folder):
    """Write a CA, a server's certificate and a client's, and return a server's context."""
    now = datetime.datetime.now(datetime.UTC)

    def make(name, issuer=None):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer, signer_name = issuer or (key, subject)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(issuer is None, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(signer, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return key, subject

    ca = make("ca")
    make("server", ca)
    make("client", ca)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_certificates_of_the_file_are_checked_and_shown(tmp_path, one_attempt):
    tls = make_certificates(tmp_path)
    config = tmp_path / "client.properties"
    ca, certificate, key = (
        f"schema.registry.ssl.{name}={tmp_path / file}\n"
        for name, file in (
            ("ca.location", "ca.pem"),
            ("certificate.location", "client.pem"),
            ("key.location", "client.key"),
        )
    )
    with run_registry(tls=tls) as registry:
        registry.add("t-value", NEW)

        def ask(*lines):
            config.write_text("".join(lines))
            return Registry(url=registry.url, config=str(config)).connect().latest("t-value")

        assert ask(ca, certificate, key)
        with pytest.raises(RegistryAway, match="CERTIFICATE_VERIFY_FAILED"):
            ask(certificate, key)
        with pytest.raises(RegistryAway, match="expected a schema registry"):
            ask(ca)
        with pytest.raises(RegistryFails, match=r"expected certificates at schema\.registry\.ssl"):
            ask(ca, certificate)
