from __future__ import annotations

import pytest

from scoreline.transforms.kafka.ending import StreamEnds, StreamRefused, find_ending

SENTENCE = "--topic: expected topic in, got none: it was deleted"
IN_TEXT = {
    "prism": f"bundle inst003 failed:Traceback (most recent call last):\n  File x\n"
    f"scoreline.transforms.kafka.ending.StreamRefused: {SENTENCE} [while running 'ReadKafka/Poll']",
    "one_line": f"RuntimeError: StreamRefused: {SENTENCE}",
    "escaped": f"failed: \\nscoreline.transforms.kafka.ending.StreamRefused: {SENTENCE}\\n at x",
    "traceback": f"ending.StreamRefused: {SENTENCE}\n\nDuring handling of the above, another",
}


@pytest.mark.parametrize("text", IN_TEXT.values(), ids=IN_TEXT)
def test_the_reason_of_a_worker_is_found_in_the_text_of_a_runner(text):
    found = find_ending(RuntimeError(text))
    assert isinstance(found, StreamRefused)
    assert str(found) == SENTENCE
    assert str(find_ending(text)) == SENTENCE


def test_the_type_decides_whether_a_restart_may_help():
    for kind in (StreamEnds, StreamRefused):
        outer = RuntimeError("the bundle failed")
        outer.__cause__ = kind(SENTENCE)
        assert type(find_ending(outer)) is kind
        found = find_ending(kind(f"{SENTENCE} [while running 'WriteKafka/Send']"))
        assert (type(found), str(found)) == (kind, SENTENCE)
        assert type(find_ending(f"x.{kind.__name__}: {SENTENCE}")) is kind
    assert find_ending(ValueError("StreamRefusedly: x")) is None
