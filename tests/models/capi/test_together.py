"""TensorFlow's C API in one process with the libraries that a worker has, before and after it."""

from __future__ import annotations

import json

import pytest

from tests.processes import run_script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = """
import io, json, sys, tempfile
from concurrent import futures

def use_others():
    import pyarrow as pa, pyarrow.parquet as pq
    table = pa.table({"a": ["x", "y"], "b": [1, 2]})
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    assert pq.read_table(file).equals(table)

    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.testing.util import assert_that, equal_to
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        assert_that(pipeline | beam.Create([1, 2]) | beam.Map(lambda v: v + 1), equal_to([2, 3]))

    import grpc
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(60)
    server.stop(0)

    import deltalake
    folder = tempfile.mkdtemp(dir=sys.argv[3])
    deltalake.write_deltalake(folder, table)
    assert deltalake.DeltaTable(folder).to_pyarrow_table().num_rows == 2

    import confluent_kafka
    confluent_kafka.Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}).poll(0)

    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
    batch = pa.record_batch({"a": pa.array([[1.0]], pa.large_list(pa.float32()))})
    assert len(RecordBatchToExamplesEncoder().encode(batch)) == 1

def score():
    import pyarrow as pa
    from scoreline.models.servable import shared_servable
    servable = shared_servable(sys.argv[1], "serving_default")
    assert servable.runtime.name == "c", servable.runtime
    columns = {"x": pa.array([1.5, -2.0], pa.float32()), "n": pa.array([1, 2]),
               "s": pa.array(["a", "long text of more than 22 bytes"])}
    return servable.predict(columns, 2, ["score"])["score"].to_pylist()

steps = [use_others, score] if sys.argv[2] == "before" else [score, use_others]
found = [step() for step in (*steps, score, use_others, score)]
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
texts = tf.constant(["a", "long text of more than 22 bytes"])
called = loaded(x=tf.constant([1.5, -2.0]), n=tf.constant([1, 2], tf.int64), s=texts)
print(json.dumps([*filter(None, found), called["score"].numpy().tolist(), score()]))
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_all_libraries_of_a_worker_work_with_it_in_any_order(model, tmp_path, order):
    ended = run_script(tmp_path, SCRIPT, model, order, tmp_path, timeout=500)
    assert ended.code == 0, ended.err[-3000:]
    found = json.loads(ended.out.splitlines()[-1])
    assert len(found) >= 4
    assert all(scores == [7.0, 2.0] for scores in found), found
