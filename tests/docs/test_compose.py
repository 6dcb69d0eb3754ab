"""deploy/compose.yaml, validated offline with the schema of the Compose specification.

There is no container engine here to start it. tests/docs/schemas/README.md names the schema.
"""

from __future__ import annotations

import copy
import gzip
import json
import re

import jsonschema
import pytest
import yaml

from tests.docs.pages import ROOT

SCHEMA = ROOT / "tests" / "docs" / "schemas" / "compose-spec.json.gz"


@pytest.fixture(scope="module")
def validator():
    return jsonschema.Draft202012Validator(json.loads(gzip.decompress(SCHEMA.read_bytes())))


@pytest.fixture
def compose():
    return yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())


def find_problems(validator, compose):
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(compose)]


def flink_properties(service):
    return yaml.safe_load(service["environment"]["FLINK_PROPERTIES"])


def test_compose_file_fits_the_specification(validator, compose):
    assert find_problems(validator, compose) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("services", "kafka", "imagee"), "apache/kafka:4.1.1"),
        (("services", "kafka", "ports"), 9092),
        (("services", "jobmanager", "healthcheck", "retry"), 3),
        (("services", "launcher", "depends_on", "kafka", "condition"), "is_up"),
        (("volume",), {}),
    ],
)
def test_a_mistake_in_the_compose_file_would_be_found(validator, compose, path, value):
    compose = copy.deepcopy(compose)
    node = compose
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert find_problems(validator, compose)


def test_versions_are_those_of_the_rest_of_the_project(compose):
    services = compose["services"]
    makefile = (ROOT / "Makefile").read_text()
    flink = re.search(r"^FLINK_VERSION := (\S+)$", makefile, re.M)[1]
    pom = (ROOT / "deploy" / "local" / "kafka_broker" / "pom.xml").read_text()
    kafka = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([^<]+)<", pom)[1]
    version = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text())[1]
    assert services["kafka"]["image"] == f"apache/kafka:{kafka}"
    for name in ("jobmanager", "taskmanager", "flink-state"):
        assert services[name]["image"].startswith(f"flink:{flink}-")
    for name in ("worker-pool", "launcher"):
        assert services[name]["image"] == f"scoreline:{version}"
        assert (ROOT / services[name]["build"]["dockerfile"]).is_file()


def test_services_and_volumes_that_are_named_are_there(compose):
    services, volumes = compose["services"], compose["volumes"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= services.keys(), name
        shared = service.get("network_mode", "service:kafka").removeprefix("service:")
        assert shared in services, name
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{[^}]*\}", "/", volume).partition(":")[0]
            assert source.startswith(("/", ".")) or source in volumes, name


def test_every_port_is_open_on_the_loopback_only(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_flink_settings_are_those_of_a_standalone_cluster_where_both_have_them(compose):
    standalone = yaml.safe_load(
        (ROOT / "deploy" / "flink" / "standalone" / "flink-conf.yaml").read_text()
    )
    ours = flink_properties(compose["services"]["taskmanager"])
    assert ours == flink_properties(compose["services"]["jobmanager"])
    own = {"jobmanager.rpc.address", "taskmanager.numberOfTaskSlots"}
    own |= {"state.checkpoints.dir", "state.savepoints.dir"}
    assert own < ours.keys()
    assert {k: standalone[k] for k in ours.keys() - own} == {k: ours[k] for k in ours.keys() - own}
