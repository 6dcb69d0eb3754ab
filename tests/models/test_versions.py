from __future__ import annotations

import os

import pytest

from scoreline.models.artifact import digest_model
from scoreline.models.versions import (
    choose_version,
    find_versions,
    fingerprint_of,
    is_marked_refused,
    mark_refused,
    remove_mark,
    version_at,
)


@pytest.fixture
def folder(tmp_path):
    """Versions 1 (a directory), 2.tflite and 10.keras, and names that are not versions."""
    for name in ("1", "11", "12.tmp", "copy"):
        (tmp_path / name).mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"one")
    (tmp_path / "12.tmp" / "saved_model.pb").write_bytes(b"being copied")
    (tmp_path / "2.tflite").write_bytes(b"two")
    (tmp_path / "10.keras").write_bytes(b"ten")
    (tmp_path / "13.h5").write_bytes(b"another format")
    return tmp_path


def refuse(folder, name, reason="it is bad"):
    path = str(folder / name)
    mark_refused(version_at(path), digest_model(path), reason)


def chosen(folder):
    return choose_version(str(folder)).name


def test_highest_complete_version_serves(folder):
    assert [v.name for v in find_versions(str(folder))] == ["10.keras", "2.tflite", "1"]
    version = choose_version(str(folder))
    assert version == ("10.keras", 10, str(folder / "10.keras"), False)
    (folder / "12.tmp").rename(folder / "12")
    assert chosen(folder) == "12"


def test_the_file_names_the_serving_version_and_a_rollback_is_one_file(folder):
    serving = folder / "SERVING"
    serving.write_text("2.tflite\n")
    assert choose_version(str(folder)) == ("2.tflite", 2, str(folder / "2.tflite"), True)
    serving.write_text("1")
    assert chosen(folder) == "1"
    serving.unlink()
    assert chosen(folder) == "10.keras"


@pytest.mark.parametrize("text", ["3", "2", "", "../1", "11", "1\n2", "\ud800"])
def test_a_file_that_names_no_version_is_refused_with_the_existing_versions(folder, text):
    (folder / "SERVING").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(FileNotFoundError, match=r"SERVING: .*\(1, 2.tflite, 10.keras\), got '"):
        choose_version(str(folder))


def test_a_folder_that_is_none_is_refused(folder, tmp_path):
    for name, told in (
        ("copy", "found none"),
        ("absent", "got no directory"),
        ("1", "a model itself"),
    ):
        with pytest.raises(FileNotFoundError, match=told):
            choose_version(str(folder / name))


def test_a_version_that_was_refused_is_passed_over_until_its_files_change(folder):
    refuse(folder, "10.keras")
    assert chosen(folder) == "2.tflite"
    assert (folder / "10.keras.refused").read_text().endswith("\nit is bad\n")
    (folder / "10.keras").write_bytes(b"another ten")
    assert chosen(folder) == "10.keras"
    refuse(folder, "10.keras")
    assert chosen(folder) == "2.tflite"
    (folder / "SERVING").write_text("10.keras")
    assert chosen(folder) == "10.keras"
    (folder / "SERVING").unlink()
    remove_mark(version_at(str(folder / "10.keras")))
    assert chosen(folder) == "10.keras"


def test_refusal_of_all_versions_is_reported(folder):
    for name in ("1", "2.tflite", "10.keras"):
        refuse(folder, name)
    with pytest.raises(FileNotFoundError, match=r"every version \(1, 2.tflite, 10.keras\) is mark"):
        choose_version(str(folder))


def test_no_model_is_read_for_marks_that_are_not_there(folder):
    def digest_of(path):
        raise AssertionError(path)

    assert not is_marked_refused(version_at(str(folder / "1")), digest_of)


def test_a_fingerprint_tells_of_names_sizes_and_times(folder):
    path = str(folder / "1")
    seen = {fingerprint_of(path)}
    (folder / "1" / "variables").write_bytes(b"v")
    seen.add(fingerprint_of(path))
    (folder / "1" / "variables").write_bytes(b"vv")
    seen.add(fingerprint_of(path))
    os.utime(folder / "1" / "variables", ns=(1, 1))
    seen.add(fingerprint_of(path))
    (folder / "1" / "variables").rename(folder / "1" / "assets")
    seen.add(fingerprint_of(path))
    assert len(seen) == 5
    assert fingerprint_of(path) in seen
    assert fingerprint_of(str(folder / "2.tflite")) != fingerprint_of(str(folder / "10.keras"))
