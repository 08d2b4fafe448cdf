"""A store in a folder."""

from pathlib import Path

import pytest

from service.storage.base import Store
from service.storage.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store")
