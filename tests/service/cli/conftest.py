"""Calls the command line in this process."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.json_schemas import check_output
from support.workspace import Done

from service.cli.main import run
from service.storage.base import Store

Delayline = Callable[..., Done]


@pytest.fixture
def delayline(
    tmp_path: Path, local_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Delayline]:
    """Runs `delayline` in an empty folder with a local store; what it prints with --json fits its schema."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DELAYLINE_STORE", local_store.url)
    monkeypatch.setenv("DELAYLINE_CACHE", str(tmp_path / "cache"))

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["delayline", *arguments])
        capsys.readouterr()
        code = run()
        done = Done(code, *capsys.readouterr())
        check_output(arguments, done.out)
        return done

    yield call
    assert not list(folder.iterdir()), "a command left something in the user's folder"
