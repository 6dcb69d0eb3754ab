from __future__ import annotations

import pytest

from scoreline.models.artifact import digest_model
from scoreline.models.errors import ModelError
from scoreline.models.versions import fingerprint_of


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
        ("versions", r"which holds model versions 2, 9, 10\. Give one: .*versions/10"),
        ("files", r"which holds model versions 9\.keras, 10\.tflite\. Give one: .*/10\.tflite"),
        ("model.h5", r"which is an HDF5 file of Keras\. Load it .*model\.export\(FOLDER\)"),
        ("MODEL.HDF5", "which is an HDF5 file of Keras"),
        ("model.tar.gz", "which is an archive. Unpack it"),
        ("frozen.pb", "which is a frozen graph"),
        ("model.onnx", "which is a model of ONNX"),
        ("trained", "which holds a checkpoint, which holds weights and no model"),
        ("parts", "which holds saved_model.cpb, a model in parts. Export it without"),
    ],
)
def test_the_message_lists_the_existing_files(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for version in ("2", "9", "10"):
        make_model(tmp_path / "versions" / version)
    for name_of_file in ("model.h5", "MODEL.HDF5", "model.tar.gz", "frozen.pb", "model.onnx"):
        (tmp_path / name_of_file).write_text("")
    for file in ("files/9.keras", "files/10.tflite", "trained/checkpoint", "parts/saved_model.cpb"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    with pytest.raises(FileNotFoundError, match=f"--model: expected a SavedModel .*{message}"):
        digest_model(str(tmp_path / name))


@pytest.mark.parametrize("what", ["folder", "file", "folder in a folder", "hidden", "whole model"])
def test_digest_and_fingerprint_cover_what_links_lead_to(tmp_path, what):
    model, elsewhere = make_model(tmp_path / "model"), tmp_path / "elsewhere"
    plain = digest_model(str(model))
    elsewhere.mkdir()
    file, path = elsewhere / "v", model
    if what == "folder":
        (model / "variables").rename(elsewhere / "variables")
        (model / "variables").symlink_to(elsewhere / "variables")
        file = elsewhere / "variables" / "v"
    elif what == "file":
        (model / "variables" / "v").rename(file)
        (model / "variables" / "v").symlink_to(file)
    elif what == "folder in a folder":
        (elsewhere / "deep").mkdir()
        file = elsewhere / "deep" / "v"
        file.write_bytes(b"1")
        (model / "assets").symlink_to(elsewhere)
    elif what == "hidden":
        file.write_bytes(b"1")
        (model / ".hidden").symlink_to(elsewhere)
    else:
        model.rename(elsewhere / "model")
        path = tmp_path / "link"
        path.symlink_to(elsewhere / "model")
        file = elsewhere / "model" / "variables" / "v"
    linked, print_before = digest_model(str(path)), fingerprint_of(str(path))
    assert (linked == plain) == (what in ("folder", "file", "whole model"))
    file.write_bytes(b"22")
    assert digest_model(str(path)) != linked
    assert fingerprint_of(str(path)) != print_before


@pytest.mark.parametrize("name", ["m.keras", "m.tflite"])
def test_digest_of_a_model_file_is_that_of_what_a_link_leads_to(tmp_path, name):
    (tmp_path / "target").write_bytes(b"1")
    (tmp_path / name).symlink_to(tmp_path / "target")
    before = digest_model(str(tmp_path / name))
    (tmp_path / "target").write_bytes(b"2")
    assert digest_model(str(tmp_path / name)) != before


def test_links_in_a_circle_are_refused(tmp_path):
    model = make_model(tmp_path / "model")
    (model / "variables" / "up").symlink_to(model)
    with pytest.raises(ModelError, match="up is a link to a folder above"):
        digest_model(str(model))
