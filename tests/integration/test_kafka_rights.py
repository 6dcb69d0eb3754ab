"""Streams whose brokers reject clients, or take rights away from them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.local.kafka_broker import Broker
from deploy.local.processes import free_ports
from scoreline.pipelines import score_stream
from tests.kafka import (
    as_json,
    assert_scored,
    committed,
    count_of,
    make_producer,
    make_topics,
    read_all,
    rows,
    run_while,
    scores_of,
    send,
    wait_until,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
PASSWORD = "correct-horse-battery"


class Secured(NamedTuple):
    """A broker that allows everything on its plain port, and on others what its ACLs allow."""

    plain: str
    tls: str
    authority: Path


def sign(subject, key, signer=None, signing_key=None):
    """Return a certificate of a key for loopback; self-signed if there is no signer."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(signer.subject if signer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .sign(signing_key or key, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def secured(broker, tmp_path_factory):
    """A broker with TLS, SASL/PLAIN and ACLs (`broker` skips if none can run)."""
    folder = tmp_path_factory.mktemp("secured")
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = sign("authority", authority_key)
    certificate = sign("broker", key, authority, authority_key)
    pem = serialization.Encoding.PEM
    (folder / "authority.pem").write_bytes(authority.public_bytes(pem))
    store = folder / "broker.pem"
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    store.write_bytes(private + certificate.public_bytes(pem) + authority.public_bytes(pem))
    plain, tls, controller = free_ports(3)
    listeners = f"PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{tls}"
    secured = Broker(
        folder=folder,
        port=plain,
        controller_port=controller,
        owner=os.getpid(),
        settings={
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,"
            "CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": "org.apache.kafka.common.security."
            f'plain.PlainLoginModule required user_scorer="{PASSWORD}";',
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        },
    )
    secured.start()
    yield Secured(secured.address, f"127.0.0.1:{tls}", folder / "authority.pem")
    secured.kill()


@pytest.fixture
def client_file(secured, tmp_path):
    """Return a function that writes a client's properties; None leaves a setting out."""

    def write(**settings):
        given = {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "scorer",
            "sasl.password": PASSWORD,
            "ssl.ca.location": secured.authority,
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
        path = tmp_path / "client.properties"
        path.write_text("".join(f"{k}={v}\n" for k, v in given.items() if v is not None))
        return path

    return write


def allow(secured, **rights):
    """Grant rights to the user `scorer`: resource names by operation."""
    kinds = {
        "read": (ResourceType.TOPIC, AclOperation.READ),
        "write": (ResourceType.TOPIC, AclOperation.WRITE),
        "describe": (ResourceType.TOPIC, AclOperation.DESCRIBE),
        "group": (ResourceType.GROUP, AclOperation.READ),
        "transaction": (ResourceType.TRANSACTIONAL_ID, AclOperation.WRITE),
    }
    rules = [
        AclBinding(
            kinds[right][0],
            name,
            ResourcePatternType.LITERAL,
            "User:scorer",
            "*",
            kinds[right][1],
            AclPermissionType.ALLOW,
        )
        for right, names in rights.items()
        for name in names
    ]
    admin = AdminClient({"bootstrap.servers": secured.plain})
    for done in admin.create_acls(rules).values():
        done.result(120)


def rights_of(topics):
    group = f"group-of-{topics[0]}"
    return {
        "read": [topics[0]],
        "write": topics[1:],
        "group": [group],
        "transaction": [f"scoreline-{group}-{topics[0]}-0"],
    }


def test_password_and_certificates_come_from_a_file(
    secured, topics, stream_arguments, client_file, capfd
):
    make_topics(secured.plain, 2, *topics)
    allow(secured, **rights_of(topics))
    options = {"brokers": secured.tls, "kafka_config": client_file()}
    for first, flags in ((0, ()), (300, ("--exactly_once",))):
        records = [*as_json(rows(first, 300)), (b"bad", b"?")]
        send(make_producer(secured.plain), topics[0], records)
        assert score_stream.main(stream_arguments("--until_end", *flags, **options)) == 3
    assert_scored(scores_of(secured.plain, topics[1]), 600, exactly_once=True)
    assert len(read_all(secured.plain, topics[2])) == 2
    printed = capfd.readouterr()
    assert PASSWORD not in printed.out + printed.err


@pytest.mark.parametrize(
    ("settings", "code", "told"),
    [
        (
            {"sasl_password": "wrong-secret"},
            2,
            ("Authentication failed", "Correct user and password"),
        ),
        ({"ssl_ca_location": None}, 2, ("certificate", "Check ssl.ca.location")),
        ({"ssl_ca_location": "/no/such.pem"}, 2, ("--kafka_config: ", "ssl.ca.location failed")),
        # The broker only closes the connection, like one that shuts down: a retry may succeed.
        ({"security_protocol": "PLAINTEXT"}, 1, ("--brokers: ", "security.protocol")),
    ],
    ids=["password", "certificate", "file", "protocol"],
)
def test_a_rejected_client_gets_the_reason_before_the_first_record(
    secured, stream_arguments, client_file, capfd, monkeypatch, settings, code, told
):
    monkeypatch.setattr(
        "scoreline.pipelines.plan.access._QUICK_SECONDS", 3.0
    )  # time for a broker to answer
    config = client_file(**settings)
    assert score_stream.main(stream_arguments(brokers=secured.tls, kafka_config=config)) == code
    printed = capfd.readouterr()
    for text in told:
        assert text in printed.err
    assert PASSWORD not in printed.out + printed.err
    assert "wrong-secret" not in printed.out + printed.err


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (
            ("read", "write", "group", "transaction"),
            (
                "3 things are wrong",
                "Topic authorization failed",
                "--operation Describe --topic in-",
            ),
        ),
        (
            ("write",),
            ("2 things are wrong", "--output_topic: expected to be allowed to WRITE topic"),
        ),
        (("group",), ("--group: expected to be allowed to READ group", "--group group-of-in-")),
        (("transaction",), ("--exactly_once: expected to be allowed to WRITE transactional-id",)),
    ],
    ids=["all", "write", "group", "transaction"],
)
def test_missing_rights_are_reported_before_the_first_record(
    secured, topics, stream_arguments, client_file, capfd, missing, told
):
    make_topics(secured.plain, 1, *topics)
    rights = rights_of(topics)
    some = {name: whose for name, whose in rights.items() if name not in missing}
    if missing == ("write",):  # it may describe the topics
        some["describe"] = rights["write"]
    if some:
        allow(secured, **some)
    send(make_producer(secured.plain), topics[0], as_json(rows(0, 10)))
    arguments = stream_arguments(
        "--until_end", "--exactly_once", brokers=secured.tls, kafka_config=client_file()
    )
    assert score_stream.main(arguments) == 2
    printed = capfd.readouterr()
    for text in (*told, "kafka-acls.sh --add"):
        assert text in printed.err
    assert PASSWORD not in printed.out + printed.err
    assert count_of(secured.plain, topics[1]) == 0
    assert committed(secured.plain, f"group-of-{topics[0]}", topics[0])[0] < 0


def forbid(secured, topic, operation):
    """Take a right to a topic or a group away."""
    wanted = AclBindingFilter(
        ResourceType.ANY,
        topic,
        ResourcePatternType.LITERAL,
        None,
        None,
        operation,
        AclPermissionType.ANY,
    )
    admin = AdminClient({"bootstrap.servers": secured.plain})
    for done in admin.delete_acls([wanted]).values():
        assert done.result(120)


@pytest.mark.parametrize("right", ["read", "write", "group"])
def test_a_right_that_is_taken_away_ends_the_job(
    secured, topics, stream_arguments, client_file, capsys, monkeypatch, right
):
    monkeypatch.setattr("scoreline.transforms.kafka.reader._DISCOVERY_SECONDS", 0.3)
    monkeypatch.setattr("scoreline.transforms.kafka.topic_watch._GONE_SECONDS", 1.0)
    make_topics(secured.plain, 1, *topics)
    allow(secured, **rights_of(topics))
    group = f"group-of-{topics[0]}"
    send(make_producer(secured.plain), topics[0], as_json(rows(0, 10)))
    resource = {"read": topics[0], "write": topics[1], "group": group}[right]

    def act():
        wait_until(lambda: committed(secured.plain, group, topics[0])[0] == 10)
        forbid(secured, resource, AclOperation.WRITE if right == "write" else AclOperation.READ)
        send(make_producer(secured.plain), topics[0], as_json(rows(10, 10)))

    arguments = stream_arguments(brokers=secured.tls, kafka_config=client_file())
    assert run_while(arguments, act) == 2
    err = capsys.readouterr().err
    assert "The job ended: " in err
    assert resource in err
    assert "taken away" in err
    assert PASSWORD not in err
