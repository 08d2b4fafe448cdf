from collections.abc import Callable
from pathlib import Path
from typing import Any

Delayline = Callable[..., Any]


def test_an_unknown_run_is_refused_before_anything_is_written(delayline: Delayline, tmp_path: Path) -> None:
    done = delayline("export", "absent", str(tmp_path / "model"))
    assert done.code == 2
    assert "There is no run 'absent'" in done.err
    assert not (tmp_path / "model").exists()
