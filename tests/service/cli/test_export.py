from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.storage.records import RunRecord

Delayline = Callable[..., Any]


def test_an_unknown_run_is_refused_before_anything_is_written(delayline: Delayline, tmp_path: Path) -> None:
    done = delayline("export", "absent", str(tmp_path / "model"))
    assert done.code == 2
    assert "There is no run 'absent'" in done.err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("command", [("export", "fake", "out"), ("predict", "fake", "a.png"), ("train", "--dry-run")])
def test_a_package_of_the_users_does_not_take_the_place_of_delaylines(
    delayline: Delayline, submitted: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    (tmp_path / "other" / "jobs").mkdir(parents=True)
    (tmp_path / "other" / "jobs" / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path / "other")
    done = delayline(*command)
    assert done.code == 2
    assert "rename it" in done.err and str(tmp_path / "other" / "jobs" / "__init__.py") in done.err
