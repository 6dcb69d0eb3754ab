"""A damaged SavedModel is an error in our words, or has signatures that can be told.

Nothing here is loaded: only what is read from the model's file. Bytes are damaged as in files of
rows. Messages that stay whole are damaged too: a value, a name or a part of them is another.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from scoreline.models.errors import ModelError
from scoreline.models.inspection import inspect_model
from scoreline.models.runtimes.saved_model_proto import message_class
from scoreline.models.runtimes.saved_model_signature import (
    find_graph,
    find_signature,
    signature_names,
)
from scoreline.models.signature import Signature, find_unsupported
from tests.fuzz.mutate import KINDS, mutate

# On a busy machine a process beside it, as in `make fuzz`, may take most of the time.
pytestmark = pytest.mark.timeout(900)
MODELS = ["module", "tf1", "estimator", "examples", "keras_2", "odd_tf2/dtypes", "odd_tf1/names"]
_FILES = 120
_NUMBERS = (-1, 0, 1, 7, 101, 200, -(2**31), 2**31 - 1)


def read_everything(path: Path) -> str:
    """Return "read" if all of a damaged model's signatures can be told, or its error."""
    try:
        report = inspect_model(str(path))
    except ModelError as e:
        return str(e)
    for name in signature_names(find_graph(str(path))):
        if name not in report.unusable:
            with contextlib.suppress(ModelError):  # another signature spoils this one
                found = find_signature(str(path), name)
                assert Signature.from_json(found.signature.to_json()) == found.signature
                find_unsupported(found.signature)
                str(report), str(found)
    return "read"


def expected(path: Path, outcome: str) -> bool:
    ours = (
        f"Model {path} does not load: saved_model.pb is damaged",
        f"Model {path} does not load: its file {path}/saved_model.pb is empty",
        f"--tags: model {path} has no",
    )
    return outcome == "read" or outcome.startswith(ours)


@pytest.mark.parametrize("kind", MODELS)
def test_damaged_bytes_are_an_error_of_the_model_or_do_no_harm(zoo, tmp_path, kind):
    folder, _, below = kind.partition("/")
    sound = Path(zoo(folder), below, "saved_model.pb").read_bytes()
    outcomes: set[str] = set()
    for number in range(_FILES):
        chance = random.Random(f"{kind} {number}")
        damaged = mutate(sound, chance, KINDS[number % len(KINDS)])
        (tmp_path / "saved_model.pb").write_bytes(damaged)
        outcomes.add(read_everything(tmp_path))
    assert not [text for text in outcomes if not expected(tmp_path, text)]
    assert "read" in outcomes
    assert len(outcomes) > 1


@pytest.mark.parametrize("kind", MODELS)
def test_whole_messages_with_other_values_are_read_or_refused(zoo, tmp_path, kind):
    folder, _, below = kind.partition("/")
    sound = Path(zoo(folder), below, "saved_model.pb").read_bytes()
    outcomes: set[str] = set()
    for number in range(_FILES):
        chance = random.Random(f"{kind} {number}")
        proto = message_class("SavedModel").FromString(sound)
        for _ in range(chance.choice((1, 3, 9))):
            distort(proto, chance)
        (tmp_path / "saved_model.pb").write_bytes(proto.SerializeToString())
        outcomes.add(read_everything(tmp_path))
    assert not [text for text in outcomes if not expected(tmp_path, text)]
    assert "read" in outcomes


def distort(message: Any, chance: random.Random) -> None:
    """Change one field somewhere in a message."""
    fields = message.ListFields()
    if not fields:
        return
    field, value = chance.choice(fields)
    if field.is_repeated and chance.random() < 0.1:
        del value[chance.choice(list(value)) if hasattr(value, "keys") else 0]
    elif field.message_type is not None and chance.random() < 0.03:
        message.ClearField(field.name)
    elif hasattr(value, "keys"):
        distort(value[chance.choice(sorted(value))], chance)
    elif field.is_repeated and field.message_type is not None:
        distort(chance.choice(value), chance)
    elif field.message_type is not None:
        distort(value, chance)
    elif field.is_repeated:
        value[chance.randrange(len(value))] = other_value(value[0], chance)
    else:
        setattr(message, field.name, other_value(value, chance))


def other_value(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice(_NUMBERS)
    texts = [
        "",
        "x",
        "Const",
        "ParseExample",
        "ParseExampleV2",
        "Identity",
        "StatefulPartitionedCall",
    ]
    text = chance.choice([*texts, "x" * 5000, "a:0", "::", "^", "\0"])
    return text if isinstance(value, str) else text.encode()
