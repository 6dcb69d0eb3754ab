"""Pass: the numeric part of a model in LiteRT, in float32, for calls of a fixed number of rows.

One interpreter has one size: XNNPACK takes no part of a graph whose sizes change. The scorer fills
up the last rows to that size.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from scoreline.models.errors import ModelError, first_lines
from scoreline.models.fixed_batch import with_batch
from scoreline.models.optimize.build import Feed, Part, build_part, row_feeds
from scoreline.models.optimize.frozen import FrozenModel, prune
from scoreline.models.optimize.split import Split, split_front
from scoreline.models.optimize.variant import Variant
from scoreline.models.runtimes.litert_file import read_litert_file
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.runtimes.variant_file import FRONT, INPUT, LOOKUP, PassRecord, Source

NAME, VERSION = "litert_float32", 1
CALL_ROWS = 2048
# The converter's message names them, each with the dtypes of its tensors.
_LACKS = re.compile(r"(?:TF Select|Custom) ops: (.*)")
_MAX_TRIES = 8


def to_litert(
    model: FrozenModel, call_rows: int = CALL_ROWS, outputs: Sequence[str] = ()
) -> Variant:
    """Return a model as a variant: lookups, a front if LiteRT lacks an op, and the rest in LiteRT.

    Args:
      model: the model, with a free batch.
      call_rows: the number of rows of every call.
      outputs: the outputs to keep; by default all.

    Raises:
      ModelError: there is no such output, a number of rows is fixed already, or LiteRT lacks an op
        that cannot stay in front.
    """
    kept = _keep(model, outputs)
    lacking: set[str] = set()
    for _ in range(_MAX_TRIES):
        split = split_front(kept, call_rows, lacking)
        rest, sources = _build_rest(kept, split)
        try:
            content = _convert(rest)
            break
        except ModelError as e:
            found = _read_lacking(e) - lacking
            if not found:
                raise
            lacking |= found
    else:
        raise ModelError(f"LiteRT lacks too many ops, among them {', '.join(sorted(lacking))}")
    front_feeds, front = _build_front(kept, split)
    settings = {"call_rows": call_rows} | ({"outputs": [*outputs]} if outputs else {})
    record = PassRecord(NAME, VERSION, settings, _describe(split, front))
    return Variant(
        with_batch(kept.signature, call_rows),
        content,
        sources,
        {name: f"output_{at}" for at, name in enumerate(kept.outputs)},
        tuple((found.input, kept.tables[found.table], found.default) for found in split.lookups),
        front,
        tuple(feed.name for feed in front_feeds),
        kept.parent_digest,
        (*kept.passes, record),
    )


def _keep(model: FrozenModel, outputs: Sequence[str]) -> FrozenModel:
    unknown = sorted({*outputs} - model.outputs.keys())
    if unknown:
        known = ", ".join(model.outputs)
        raise ModelError(f"outputs: expected some of {known}, got '{unknown[0]}'")
    if model.signature.batch_rows is not None:
        raise ModelError(
            f"Signature '{model.signature.name}' takes calls of {model.signature.batch_rows} rows; "
            "expected one of any number of rows. Export the model with a free batch"
        )
    if not outputs:
        return model
    specs = tuple(spec for spec in model.signature.outputs if spec.name in outputs)
    tensors = {name: model.outputs[name] for name in model.outputs if name in outputs}
    return model._replace(
        signature=model.signature._replace(outputs=specs),
        outputs=tensors,
        graph=prune(model.graph, tensors.values()),
    )


def _build_rest(model: FrozenModel, split: Split) -> tuple[Part, dict[str, Source]]:
    """Return the rest as a function, and where each of its inputs comes from."""
    found = [(feed, Source(INPUT, feed.name)) for feed in split.feeds]
    found += [
        (Feed(lookup.tensor, "", lookup.dtype, lookup.shape), Source(LOOKUP, str(at)))
        for at, lookup in enumerate(split.lookups)
    ]
    found += [(cut, Source(FRONT, cut.name)) for cut in split.cuts]
    # LiteRT takes no names with special characters.
    feeds = [feed._replace(name=f"input_{at}") for at, (feed, _) in enumerate(found)]
    fetches = {f"output_{at}": tensor for at, tensor in enumerate(model.outputs.values())}
    sources = {feed.name: source for feed, (_, source) in zip(feeds, found, strict=True)}
    return build_part(model, feeds, fetches), sources


def _build_front(model: FrozenModel, split: Split) -> tuple[list[Feed], Part | None]:
    """Return the inputs of the front, and its function; None if nothing stays in front."""
    if not split.cuts:
        return [], None
    fetches = {cut.name: cut.tensor for cut in split.cuts}
    feeds = row_feeds(model, None)
    reached = build_part(model, feeds, fetches).read
    feeds = [feed for feed in feeds if feed.tensor in reached]
    return feeds, build_part(model, feeds, fetches)


def _convert(rest: Part) -> bytes:
    """Return the `.tflite` of a function.

    Raises:
      ModelError: LiteRT lacks an op.
    """
    tf = import_tensorflow()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([rest.function], rest.module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content: bytes = converter.convert()
    except Exception as e:  # the converter raises several kinds
        raise ModelError(f"LiteRT's converter fails: {_explain(e)}") from e
    problem = read_litert_file(content).find_problem()
    if problem:
        raise ModelError(problem)
    return content


def _read_lacking(error: Exception) -> set[str]:
    """Return the ops that the converter says LiteRT lacks."""
    found: set[str] = set()
    for names in _LACKS.findall(str(error.__cause__)):
        found |= {name.strip() for name in names.split(",")}
    return found


def _explain(error: Exception) -> str:
    lacking = _LACKS.findall(str(error))
    if lacking:
        return f"LiteRT has no op {', '.join(lacking)}"
    return f"{type(error).__name__}: {first_lines(error)}"


def _describe(split: Split, front: Any) -> tuple[str, ...]:
    notes = [f"lookup of '{lookup.input}' in Arrow" for lookup in split.lookups]
    if front is not None:
        ops = sorted({node for node in front.ops if node not in ("Const", "Identity")})
        notes.append(f"in TensorFlow: {', '.join(ops)}")
    return tuple(notes)
