"""Whole runs on a real Ray."""

from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest
from desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk with a local store."""
    made = Desk(tmp_path / "desk", str(tmp_path / "store"))
    yield made
    made.clean_up()


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Desk]:
    """A desk with the run `calm`, which nobody disturbed; the first process of pytest-xdist that wants it makes it for all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "calm"
    folder.mkdir(exist_ok=True)
    with filelock.FileLock(folder / "lock"):
        made = Desk(folder / "desk", str(folder / "store"))
        if not (folder / "made").exists():
            done = made.delayline("train", "run.yaml", "--name", "calm", "--json")
            assert done.code == 0, done.err
            assert done.document["state"] == "succeeded"
            (folder / "made").touch()
    yield made
    made.clean_up()
