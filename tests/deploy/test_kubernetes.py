"""The manifests, validated offline with real schemas, because there is no cluster here.

Core kinds use PyPI's kubernetes-validate. Flink's kinds use the operator's custom resource
definitions (tests/deploy/schemas/README.md). Unknown fields, which an API server drops silently,
are errors here.
"""

from __future__ import annotations

import copy
import functools
import gzip
import json

import jsonschema
import kubernetes_validate
import pytest
import yaml

from scoreline.pipelines.options.commands import make_parser, parse_flags
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.runners.runner import choose_runner
from tests.fakes import ROOT

MANIFESTS = ROOT / "deploy" / "flink" / "kubernetes"
SCHEMAS = ROOT / "tests" / "deploy" / "schemas"
KUBERNETES = "1.31"
BEAM_FLAGS = {  # flags of FlinkRunnerOptions, PortableOptions, StandardOptions
    "runner",
    "flink_master",
    "flink_version",
    "flink_submit_uber_jar",
    "flink_job_server_jar",
    "environment_type",
    "environment_config",
    "parallelism",
}


def load(name):
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


DOCUMENTS = [(path.name, doc) for path in sorted(MANIFESTS.glob("*.yaml")) for doc in load(path)]
CORE = [doc for _, doc in DOCUMENTS if "flink.apache.org" not in doc["apiVersion"]]


def name_of(doc):
    return f"{doc['kind']}-{doc['metadata'].get('name', 'generated')}"


@functools.cache
def crd_schema(kind):
    path = SCHEMAS / f"{kind.lower()}s.flink.apache.org-v1.yml.gz"
    crd = yaml.load(gzip.decompress(path.read_bytes()), Loader=yaml.CSafeLoader)
    (version,) = crd["spec"]["versions"]
    return close(version["schema"]["openAPIV3Schema"])


def close(schema):
    """Return a schema that rejects properties it does not name."""
    schema = copy.copy(schema)
    if "properties" in schema:
        schema["properties"] = {k: close(v) for k, v in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = close(schema[key])
    return schema


def find_flink_problems(doc):
    rest = {k: v for k, v in doc.items() if k not in ("apiVersion", "kind", "metadata")}
    validator = jsonschema.Draft202012Validator(crd_schema(doc["kind"]))
    return [f"{e.json_path}: {e.message[:200]}" for e in validator.iter_errors(rest)]


def all_containers():
    for file, doc in DOCUMENTS:
        for spec in pod_specs(doc):
            for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
                yield file, doc, spec, container


def pod_specs(node):
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for value in node.values():
            yield from pod_specs(value)
    elif isinstance(node, list):
        for value in node:
            yield from pod_specs(value)


@pytest.mark.parametrize("doc", CORE, ids=name_of)
def test_core_manifest_fits_kubernetes_schema(doc):
    named = copy.deepcopy(doc)
    kubernetes_validate.validate(named, KUBERNETES, strict=True)
    named["spec" if "spec" in named else "metadata"]["no_such_field"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(named, KUBERNETES, strict=True)


def test_session_cluster_fits_the_operators_schema():
    (session,) = load("session.yaml")
    assert find_flink_problems(session) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("flinkVersion",), "v1_99"),
        (("jobManager", "replica"), 1),
        (("taskManager", "podTemplate", "spec", "containers", 0, "livenessProb"), {}),
        (("flinkConfiguration", "taskmanager.numberOfTaskSlots"), 4),
    ],
)
def test_a_mistake_in_the_session_cluster_would_be_found(path, value):
    (session,) = load("session.yaml")
    node = session["spec"]
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert len(find_flink_problems(session)) == 1


def test_no_container_has_privilege():
    seen = 0
    for _, doc, spec, container in all_containers():
        shown = json.dumps([name_of(doc), container["name"]])
        outer = spec.get("securityContext") or {}
        if doc["kind"] == "FlinkDeployment":
            outer = doc["spec"]["podTemplate"]["spec"]["securityContext"]
            if container["name"] == "flink-main-container":  # merged with the template of all pods
                (container,) = doc["spec"]["podTemplate"]["spec"]["containers"]
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, shown
        assert security["capabilities"] == {"drop": ["ALL"]}, shown
        assert outer["runAsNonRoot"] is True, shown
        assert outer["seccompProfile"] == {"type": "RuntimeDefault"}, shown
        assert not security.get("privileged"), shown
        if "scoreline" in container.get("image", ""):
            assert security["readOnlyRootFilesystem"] is True, shown
            assert container["resources"]["limits"]["memory"], shown
            assert {"name": "HOME", "value": "/tmp"} in container["env"], shown
        seen += 1
    assert seen == 6


def test_volumes_that_are_mounted_are_there():
    (session,) = load("session.yaml")
    claims = {doc["metadata"]["name"] for doc in CORE if doc["kind"] == "PersistentVolumeClaim"}
    for _, _, spec, container in all_containers():
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes.keys()
        asked = [
            v["persistentVolumeClaim"]["claimName"]
            for v in volumes.values()
            if len(v) > 1 and "persistentVolumeClaim" in v
        ]
        assert set(asked) <= claims
    accounts = {doc["metadata"]["name"] for doc in CORE if doc["kind"] == "ServiceAccount"}
    assert session["spec"]["serviceAccount"] in accounts


@pytest.mark.parametrize("name", ["score-once.yaml", "score-nightly.yaml"])
def test_launcher_is_given_options_that_exist_and_reaches_the_cluster(name):
    (launcher,) = load(name)
    (spec,) = pod_specs(launcher)
    (container,) = spec["containers"]
    assert container["command"] == ["scoreline", "batch"]
    argv = container["args"]
    known = {flag for action in make_parser("batch")._actions for flag in action.option_strings}
    unknown = {arg.partition("=")[0] for arg in argv} - known
    assert {flag.removeprefix("--") for flag in unknown} == BEAM_FLAGS
    problems = Problems()
    given, others = parse_flags("batch", argv, problems)
    options = choose_runner(others).options.get_all_options()
    assert not problems
    assert options["environment_type"] == "EXTERNAL"
    assert options["flink_submit_uber_jar"] is True
    (session,) = load("session.yaml")
    assert options["flink_master"] == f"{session['metadata']['name']}-rest:8081"
    flink = options["flink_version"]
    assert session["spec"]["flinkVersion"] == f"v{flink.replace('.', '_')}"
    assert session["spec"]["image"].startswith(f"flink:{flink}.")
    pool = session["spec"]["taskManager"]["podTemplate"]["spec"]["initContainers"][0]
    assert options["environment_config"] == f"localhost:{pool['ports'][0]['containerPort']}"
    assert pool["image"] == container["image"]
    assert given.model.startswith("/files/")


def test_standalone_settings_are_those_of_kubernetes_where_both_have_them():
    text = (MANIFESTS.parent / "standalone" / "flink-conf.yaml").read_text()
    standalone = {k: str(v).lower() for k, v in yaml.safe_load(text).items()}
    (session,) = load("session.yaml")
    kubernetes = {k: v.lower() for k, v in session["spec"]["flinkConfiguration"].items()}
    shared = standalone.keys() & kubernetes.keys()
    assert len(shared) > 10
    assert {k: standalone[k] for k in shared} == {k: kubernetes[k] for k in shared}
