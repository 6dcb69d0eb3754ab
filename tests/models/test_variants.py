from __future__ import annotations

import json

import pytest

from scoreline.models.artifact import digest_model
from scoreline.models.errors import ModelError
from scoreline.models.variants import REPORT, choose_variant, cpu_flags


@pytest.fixture
def folder(tmp_path):
    """Return a folder of a parent and three variants, as `scoreline optimize` writes it."""
    root = tmp_path / "variants"
    entries = {}
    for name in ("parent", "cheap", "cheaper", "refused"):
        (root / name).mkdir(parents=True)
        (root / name / "saved_model.pb").write_text(name)
        entries[name] = {"path": name, "digest": digest_model(str(root / name))}
    variants = [
        {
            **entries[name],
            "name": name,
            "is_admitted": name != "refused",
            "cost": {"ratio": {"value": ratio}},
            "cpu_flags": flags,
        }
        for name, ratio, flags in (
            ("cheap", 0.8, []),
            ("cheaper", 0.4, ["amx_bf16"]),
            ("refused", 0.1, []),
        )
    ]
    (root / REPORT).write_text(json.dumps({"parent": entries["parent"], "variants": variants}))
    return root


def choose(folder, flags=("amx_bf16",), parent=None):
    return choose_variant(str(folder), parent, flags)


def test_the_cheapest_admitted_variant_is_chosen(folder):
    choice = choose(folder)
    assert (choice.name, choice.path) == ("cheaper", str(folder / "cheaper"))
    assert choice.digest == digest_model(choice.path)
    assert choice.parent_digest == digest_model(str(folder / "parent"))
    assert choice.passed_over == ()


def test_a_variant_needs_the_features_of_its_cpu(folder):
    choice = choose(folder, flags=())
    assert choice.name == "cheap"
    assert choice.passed_over == ("Variant 'cheaper' is passed over: expected a CPU with amx_bf16",)


def test_damaged_variants_are_passed_over_up_to_the_parent(folder):
    (folder / "cheap" / "saved_model.pb").write_text("changed")
    (folder / "cheaper" / "saved_model.pb").unlink()
    choice = choose(folder)
    assert (choice.name, choice.digest) == ("parent", choice.parent_digest)
    missing, changed = choice.passed_over
    assert "'cheaper' is passed over: expected a model" in missing
    assert "'cheap' is passed over: expected sha256:" in changed
    assert "Copy them again" in changed


def test_a_damaged_parent_is_refused(folder):
    for name in ("parent", "cheap", "cheaper"):
        (folder / name / "saved_model.pb").write_text("changed")
    with pytest.raises(ModelError, match=r"no model of .* can be used.*'parent' is passed over"):
        choose(folder)


def test_variants_of_another_parent_are_refused(folder):
    pinned = digest_model(str(folder / "parent"))
    assert choose(folder, parent=pinned).name == "cheaper"
    with pytest.raises(ModelError, match="expected variants of the parent sha256:0"):
        choose(folder, parent="sha256:" + "0" * 64)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parent": {"path": "p"}}', "\x00"])
def test_a_damaged_report_is_refused(folder, text):
    (folder / REPORT).write_text(text)
    with pytest.raises(ModelError, match=r"a damaged file .* Run the command again"):
        choose(folder)


def test_a_folder_without_a_report_is_refused(tmp_path):
    with pytest.raises(ModelError, match="expected a folder of `scoreline optimize`"):
        choose_variant(str(tmp_path), None)


def test_features_of_this_cpu_are_known():
    assert cpu_flags(), "expected features in /proc/cpuinfo"
