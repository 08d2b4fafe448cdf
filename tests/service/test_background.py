"""Processes that outlive the one that starts them."""

import gc
import os
import sys
import time
import warnings
from pathlib import Path

import psutil
import pytest

from service.background import start_in_background

CODE = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(float(sys.argv[2]))"


def started(folder: Path, seconds: float) -> psutil.Process:
    """A process that lives for so long."""
    file = folder / str(seconds)
    start_in_background([sys.executable, "-c", CODE, str(file), str(seconds)])
    limit = time.monotonic() + 30
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < limit
        time.sleep(0.01)
    return psutil.Process(int(file.read_text()))


def test_it_has_a_session_of_its_own_and_nothing_warns_that_it_still_runs(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        process = started(tmp_path, 60)
        gc.collect()
    try:
        assert process.is_running() and os.getsid(process.pid) == process.pid != os.getsid(0)
        assert {str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in range(3)} == {os.devnull}
    finally:
        process.kill()


def test_one_that_ended_is_no_zombie_once_another_is_started(tmp_path: Path) -> None:
    ended = started(tmp_path, 0)
    limit = time.monotonic() + 30
    while ended.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < limit
        time.sleep(0.01)
    started(tmp_path, 0.5)
    assert not ended.is_running()


def test_a_command_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(OSError):
        start_in_background(["/no/such/command"])
