from __future__ import annotations

import pytest

from scoreline.models.artifact import digest_model


def make_model(path, content=b"graph"):
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(content)
    (path / "variables").mkdir()
    (path / "variables" / "v").write_bytes(b"1")
    return path


def test_digest_depends_on_names_and_bytes_only(tmp_path):
    one = digest_model(str(make_model(tmp_path / "one")))
    assert one == digest_model(str(make_model(tmp_path / "two")))
    assert one.startswith("sha256:")
    assert one != digest_model(str(make_model(tmp_path / "three", b"other")))
    moved = make_model(tmp_path / "four")
    (moved / "variables" / "v").rename(moved / "variables" / "w")
    assert one != digest_model(str(moved))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "which does not exist"),
        ("file", "which is another file"),
        ("empty", "where there is none"),
        ("versions", r"which holds model versions 1, 2\. Give one: .*versions/2"),
    ],
)
def test_the_message_lists_the_existing_files(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    make_model(tmp_path / "versions" / "1")
    make_model(tmp_path / "versions" / "2")
    with pytest.raises(FileNotFoundError, match=f"--model: expected a SavedModel .*{message}"):
        digest_model(str(tmp_path / name))
