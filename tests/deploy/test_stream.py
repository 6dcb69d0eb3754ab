"""The systemd unit and the manifest of a stream, validated but not applied."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time

import kubernetes_validate
import pytest
import yaml

from scoreline.pipelines.options.commands import make_parser
from scoreline.transforms.isolate import _MAX_COSTLY
from scoreline.transforms.kafka.client import DELIVERY_MS
from tests.fakes import ROOT

FOLDER = ROOT / "deploy" / "stream"
KUBERNETES = "1.31"


@pytest.fixture(scope="module")
def unit():
    return (FOLDER / "scoreline-stream.service").read_text()


@pytest.fixture(scope="module")
def documents():
    return list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))


@pytest.fixture(scope="module")
def pod(documents):
    return documents[0]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    (container,) = pod["containers"]
    return container


def settings_of(unit):
    joined = unit.replace("\\\n", " ")
    return dict(re.findall(r"^([A-Z]\w+)=(.*)$", joined, re.M))


def assert_arguments_are_known(argv):
    parser = make_parser("stream")
    given, unknown = parser.parse_known_args(argv)
    assert unknown == []
    assert given.exactly_once
    assert not given.restart  # the service manager restarts it
    return given


def test_systemd_finds_nothing_wrong_with_the_unit(unit, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed: THE UNIT IS NOT LOOKED AT by systemd")
    path = tmp_path / "scoreline-stream.service"

    def look(text):
        path.write_text(text.replace("/opt/scoreline/bin/scoreline", sys.executable))
        command = [analyze, "verify", "--man=no", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert look(unit) == (0, "")
    assert "WatchDogSec" in look(unit.replace("WatchdogSec", "WatchDogSec"))[1]


def test_unit_starts_the_job_again_but_not_when_it_is_wrong(unit):
    settings = settings_of(unit)
    command, *argv = shlex.split(settings["ExecStart"])
    assert command.endswith("/scoreline")
    assert argv[:1] == ["stream"]
    given = assert_arguments_are_known(argv[1:])
    (credential,) = re.findall(r"^LoadCredential=([\w.]+):", unit, re.M)
    assert given.kafka_config == f"%d/{credential}"
    assert settings["Restart"] == "on-failure"
    assert settings["RestartPreventExitStatus"] == "2"
    assert settings["SuccessExitStatus"] == "3"
    assert settings["KillSignal"] == "SIGTERM"
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["CapabilityBoundingSet"] == ""
    assert settings["ProtectSystem"] == "strict"
    # Longer than a batch with rows that hang, and longer than Kafka's timeout.
    assert int(settings["WatchdogSec"]) > DELIVERY_MS / 1000 + _MAX_COSTLY * int(
        given.batch_timeout_s
    )
    assert int(settings["TimeoutStopSec"]) > DELIVERY_MS / 1000


def test_manifest_fits_kubernetes_schema(documents):
    assert [doc["kind"] for doc in documents] == ["Deployment", "NetworkPolicy"]
    for doc in documents:
        kubernetes_validate.validate(doc, KUBERNETES, strict=True)
        wrong = {**doc, "spec": {**doc["spec"], "no_such_field": 1}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_there_is_one_pod_without_privileges(documents, pod, container):
    spec = documents[0]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert documents[1]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_secrets_are_a_file_and_options_are_known(pod, container):
    given = assert_arguments_are_known(container["args"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (secret,) = [v["name"] for v in pod["volumes"] if "secret" in v]
    assert given.kafka_config.startswith(f"{mounts[secret]}/")
    assert given.heartbeat_file.startswith(f"{mounts['tmp']}/")
    assert pod["terminationGracePeriodSeconds"] > DELIVERY_MS / 1000


def test_probe_tells_a_young_heartbeat_from_an_old_one_and_from_none(container, tmp_path):
    command = container["livenessProbe"]["exec"]["command"]
    assert container["startupProbe"]["exec"]["command"] == command
    file = tmp_path / "heartbeat"
    here = [part.replace("/tmp/heartbeat", str(file)) for part in command]

    def is_alive():
        return subprocess.run(here, check=False, capture_output=True).returncode == 0

    assert not is_alive()
    file.touch()
    assert is_alive()
    os.utime(file, (time.time() - 901,) * 2)
    assert not is_alive()
