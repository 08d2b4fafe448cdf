from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.records.run_record import RunRecord

Delayline = Callable[..., Any]


def test_an_unknown_run_is_refused_before_anything_is_written(delayline: Delayline, tmp_path: Path) -> None:
    done = delayline("export", "absent", str(tmp_path / "model"))
    assert done.code == 2
    assert "There is no run 'absent'" in done.err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("command", "code"), [(("export", "fake", "out"), 2), (("predict", "fake", "a.png"), 2), (("train", "--dry-run"), 0)]
)
def test_a_package_of_the_users_does_not_take_the_place_of_delaylines(
    delayline: Delayline,
    submitted: RunRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    code: int,
) -> None:
    (tmp_path / "other" / "jobs").mkdir(parents=True)
    (tmp_path / "other" / "jobs" / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path / "other")
    done = delayline(*command)
    # The run has no model yet; a process that imported the user's package would end with exit code 1.
    assert done.code == code and "RuntimeError" not in done.err, done.err
