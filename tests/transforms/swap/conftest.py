"""Fixtures: the models of a folder, and the folder with its watcher."""

from __future__ import annotations

import pytest

from tests.transforms.swap.folder import Folder, save_models


@pytest.fixture(scope="session")
def models(once):
    return once("swapped", save_models)


@pytest.fixture
def folder(tmp_path, models):
    return Folder(tmp_path, models)
