"""Whole runs on a real Ray."""

from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest
from support.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace with a local store."""
    made = Workspace(tmp_path / "workspace", str(tmp_path / "store"))
    yield made
    made.clean_up()


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Workspace]:
    """A workspace with the run `calm`, which nobody disturbed; the first process of pytest-xdist that wants it makes it for all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "calm"
    folder.mkdir(exist_ok=True)
    with filelock.FileLock(folder / "lock"):
        made = Workspace(folder / "workspace", str(folder / "store"))
        if not (folder / "made").exists():
            done = made.delayline("train", "run.yaml", "--name", "calm", "--json")
            assert done.code == 0, done.err
            assert done.document["state"] == "succeeded"
            (folder / "made").touch()
    yield made
    made.clean_up()
