"""A spec, a replica and a training loop in this process, without Ray and without a store."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.specs import TrainSpec


@pytest.fixture
def make_spec() -> Callable[..., TrainSpec]:
    """Makes a small spec with the given keys."""

    def make(**keys: Any) -> TrainSpec:
        length = {} if "steps" in keys else {"epochs": 1}
        return TrainSpec.model_validate({"model": "dense", "dataset": "digits", "batch": 8, **length, **keys})

    return make


@pytest.fixture
def user_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a user's modules; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "user"
    folder.mkdir()
    path, modules = list(sys.path), set(sys.modules)
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
