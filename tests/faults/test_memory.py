"""A real memory limit: calls are halved until they fit, and larger calls are not tried again."""

from __future__ import annotations

import json

import pytest

from tests.processes import run_script

pytestmark = pytest.mark.slow

# A row takes 256 KB in the model, and 8,192 rows take 2 GB. The limit is 1 GB.
SCRIPT = """
import json, resource, sys
import numpy as np
import pyarrow as pa
from scoreline.models.servable import load_servable
from scoreline.models.runtimes.tensorflow import import_tensorflow
from tests.model_zoo import save_function

tf = import_tensorflow()
spec = tf.TensorSpec([None], tf.float32, name="a")
path = save_function(
    sys.argv[1],
    lambda a: {"y": tf.reduce_sum(tf.reshape(a, [-1, 1, 1]) * tf.ones([1, 256, 256]), [1, 2])},
    spec,
)
servable = load_servable(path, concurrent_calls=1)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
a = np.arange(8192, dtype=np.float32)
calls = []
real = servable._model.call

def call(inputs, outputs):
    calls.append(len(inputs["a"]))
    return real(inputs, outputs)

servable._model.call = call
for _ in range(2):
    y = servable.predict({"a": pa.array(a)}, len(a))["y"].to_numpy()
    np.testing.assert_allclose(y, a * 65536, rtol=1e-5)
    print(json.dumps([calls, servable.call_size.rows]))
    calls.clear()
"""


def test_a_call_beyond_the_limit_of_memory_is_halved_and_that_is_remembered(tmp_path):
    ended = run_script(tmp_path, SCRIPT, tmp_path / "model")
    assert ended.code == 0, ended.err[-2000:]
    (first, rows), (second, _) = map(json.loads, ended.out.splitlines())
    assert first[:2] == [8192, 4096]
    assert rows < 8192
    assert max(second) <= rows  # or smaller: memory may be fragmented
