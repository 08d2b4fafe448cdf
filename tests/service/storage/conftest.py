"""A store of each kind, opened as often as there are processes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store

MakeStore = Callable[[], Store]


@pytest.fixture(params=["local", "seaweedfs", "minio"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeStore:
    """Opens the same empty store again and again, as several processes would."""
    if request.param == "local":
        return lambda: open_store(Settings.load(store=str(tmp_path / "store")))
    server = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{server.bucket()}/some/prefix"
    return lambda: open_store(Settings.load(store=url))


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    return make_store()
