"""A run's record, the folder of a user's modules as the current one, and settings with a cache."""

from pathlib import Path

import pytest

from service.records.run_record import RunRecord
from service.settings import Settings
from service.storage.local import LocalStore


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(LocalStore(tmp_path / "store"), "a-run")


@pytest.fixture
def in_the_users_folder(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(user_folder)


@pytest.fixture
def checked(tmp_path: Path) -> Settings:
    return Settings.load(cache=tmp_path / "cache")
