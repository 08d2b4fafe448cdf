import os
import signal
import time
from collections.abc import Callable

import pytest

from service.cluster import detached, supervisor
from service.cluster.base import Job
from service.storage.records import RunRecord


@pytest.mark.parametrize(("modes", "code"), [(["killed", "succeeds"], 0), (["fails"], 3)])
def test_supervises_to_the_end(
    submitted: RunRecord,
    job_of: Callable[..., Callable[[bool], Job]],
    monkeypatch: pytest.MonkeyPatch,
    modes: list[str],
    code: int,
) -> None:
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(detached, "driver_job", lambda *arguments: job_of(*modes)(False))
    argv = ["--run", "fake", "--store", submitted.store.url, "--folder", "/", "--retries", "3"]
    assert detached.main(argv) == code
    assert len(submitted.state()["attempts"]) == len(modes)


def test_its_own_mistake_goes_to_the_store(submitted: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached, "driver_job", lambda *arguments: 1 / 0)
    assert detached.main(["--run", "fake", "--store", submitted.store.url, "--folder", "/", "--retries", "3"]) == 4
    assert b"ZeroDivisionError" in submitted.store.read(f"{submitted.paths.logs}supervisor.log")


def test_a_first_signal_asks_the_run_to_save_and_a_second_one_is_the_systems(
    submitted: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "ASK_SECONDS", 0.05)
    before = signal.getsignal(signal.SIGTERM)
    try:
        detached.install_signal_handler(submitted)
        os.kill(os.getpid(), signal.SIGTERM)
        end = time.monotonic() + 10
        while not submitted.cancel_requested() and time.monotonic() < end:
            time.sleep(0.02)
        assert submitted.cancel_requested()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
