"""Whole runs on a real Ray."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk with a local store."""
    made = Desk(tmp_path / "desk", str(tmp_path / "store"))
    yield made
    made.clean_up()


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk with the run `calm`, which nobody disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    made = Desk(folder / "desk", str(folder / "store"))
    done = made.delayline("train", "run.yaml", "--name", "calm", "--json")
    assert done.code == 0, done.err
    assert done.document["state"] == "succeeded"
    yield made
    made.clean_up()
