"""What is left out of Beam's import is there as soon as it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fakes import ROOT

UNUSED = ("google.auth", "google.api_core", "google.cloud.storage", "google.cloud.dataflow")
UNUSED += ("apitools", "oauth2client", "bson", "pymongo", "pandas")
UNUSED += ("beartype", "httplib2", "pyparsing", "cryptography", "yaml")
START = """
import sys
from scoreline.transforms.worker.lean_beam import import_beam
import_beam()
import_beam()
import apache_beam as beam
"""
UNTIL = {
    # A path of a bucket, as in --temp_location, and the errors that are worth another try.
    "gs": """
from apache_beam.io.filesystems import FileSystems
assert type(FileSystems.get_filesystem("/tmp")).__name__ == "LocalFileSystem"
assert not any("google.cloud.storage" in name for name in sys.modules)
assert FileSystems.get_filesystem("gs://bucket/x").join("gs://bucket", "x") == "gs://bucket/x"
from apache_beam.utils import retry
from apitools.base.py.exceptions import HttpError
error = HttpError({"status": 503}, b"", "http://x")
assert retry.retry_on_server_errors_filter(error)
assert not retry.retry_on_server_errors_filter(HttpError({"status": 404}, b"", "http://x"))
""",
    "dataflow": """
from apache_beam.runners.runner import create_runner
runner = create_runner("DataflowRunner")
from apache_beam.runners.dataflow import dataflow_runner
from apache_beam.runners.dataflow.internal import apiclient
assert dataflow_runner.DataflowPipelineResult.api_jobstate_to_pipeline_state
assert dataflow_runner.dataflow_api.JobState.JOB_STATE_DONE
assert type(runner) is dataflow_runner.DataflowRunner is beam.runners.DataflowRunner
""",
    "bigquery and pubsub": """
assert beam.io.ReadFromBigQuery.__module__ == "apache_beam.io.gcp.bigquery"
assert beam.io.ReadFromPubSub.__module__ == "apache_beam.io.gcp.pubsub"
from apache_beam.io.gcp import bigquery_tools
assert bigquery_tools.gcp_bigquery.Client
try:
    beam.io.NoSuchName
except AttributeError as e:
    assert "module 'apache_beam.io' has no attribute 'NoSuchName'" in str(e)
""",
    "mongodb": """
assert beam.io.ReadFromMongoDB.__module__ == "apache_beam.io.mongodbio"
assert beam.io.mongodbio.MongoClient.__module__.startswith("pymongo")
""",
    "mongodb by its module": """
from apache_beam.io.mongodbio import MongoClient, WriteToMongoDB
assert MongoClient is not None
""",
    "beartype": """
from apache_beam.typehints.typehints import is_consistent_with
assert "beartype" not in sys.modules
assert is_consistent_with(bool, int) and not is_consistent_with(int, str)
assert "beartype" in sys.modules
assert not is_consistent_with("no type", int)
from beartype.door import is_subhint
from beartype.roar import BeartypeDoorException
assert is_subhint(bool, int) and issubclass(BeartypeDoorException, Exception)
""",
    "httplib2": """
from apache_beam.runners.portability import stager
http = stager.get_new_http()
from apache_beam.internal.http_client import get_new_http
assert type(http).__module__ == "httplib2" and type(get_new_http(1)) is type(http)
""",
    "cryptography": """
from apache_beam.transforms import util
import base64
key = base64.urlsafe_b64encode(bytes(32))
from cryptography.fernet import Fernet
assert util.Fernet(key).decrypt(Fernet(key).encrypt(b"text")) == b"text"
""",
    "yaml": """
from apache_beam.transforms.managed import Read
steps = Read(beam.managed.KAFKA, config={"topic": "t", "bootstrap_servers": "b"})
assert "topic: t" in steps._yaml_config
import yaml
assert yaml.safe_load("a: 1") == {"a": 1}
""",
    "pandas": """
import pandas as pd, pyarrow as pa
assert pa.array(pd.Series([1.5, None])).null_count == 1
from apache_beam.typehints import batch
converter = batch.BatchConverter.from_typehints(element_type=int, batch_type=pd.Series)
assert "pandas" in type(converter).__module__
""",
}


def run(code):
    command = [sys.executable, "-c", START + code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_a_lean_beam_imports_no_client_and_warns_of_nothing():
    loaded = run("import scoreline.pipelines.score_batch; print(*sys.modules)").split()
    assert "apache_beam.io.filesystems" in loaded
    assert not set(UNUSED) & set(loaded)


@pytest.mark.parametrize("code", UNTIL.values(), ids=UNTIL)
def test_what_is_left_out_comes_when_it_is_needed(code):
    run(code)
