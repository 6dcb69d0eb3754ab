"""The signature of a model, read by loading the model and calling it once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

from scoreline.models.errors import ModelError
from scoreline.models.process import ModelProcess
from scoreline.models.servable import shared_servable
from scoreline.models.signature import Signature
from scoreline.pipelines.options.batch import BatchScoringSettings


def read_signature(settings: BatchScoringSettings, digest: str, *, in_process: bool) -> Signature:
    """Load the model, have it answer a call, and return its signature.

    If the workers are threads of this process, the loaded model is kept for them. Otherwise it is
    loaded in a process of its own, so that the launcher never imports TensorFlow, and a model that
    crashes does not take the launcher along; also if the model is to run in one anyway.

    Args:
      settings: name the model and its signature.
      digest: that the model must have; "" for any.
      in_process: whether the workers are threads of this process.

    Raises:
      ModelError: the model does not load or answer, or has no such signature.
    """
    load = {
        "digest": digest or None,
        "batch_rows": settings.batch_rows,
        "concurrent_calls": settings.concurrent_calls,
        "op_libraries": settings.op_libraries,
        "outputs": None if settings.outputs is None else tuple(settings.outputs),
        "ragged": settings.ragged,
    }
    model = os.path.abspath(settings.model)
    if settings.batch_timeout_s is not None:
        timeout = settings.batch_timeout_s
        with contextlib.closing(
            ModelProcess(model, settings.signature, batch_timeout_s=timeout, **load)
        ) as process:
            return process.signature
    if in_process:
        return shared_servable(model, settings.signature, **load).signature
    command = [sys.executable, "-m", "scoreline.models.servable", model, settings.signature]
    command.append(json.dumps(load))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Signature.from_json(done.stdout.strip().rsplit("\n", 1)[-1])
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    raise ModelError(
        lines[-1]
        if done.returncode == 2
        else f"Model {settings.model} crashed its process: {lines[-1]}"
    )
