import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from service.cluster.base import Job
from service.records.run_record import RunRecord
from service.submission import detached, supervisor


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
    assert len(submitted.state().attempts) == len(modes)


def test_its_own_mistake_goes_to_the_store(submitted: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached, "driver_job", lambda *arguments: 1 / 0)
    assert detached.main(["--run", "fake", "--store", submitted.store.url, "--folder", "/", "--retries", "3"]) == 4
    assert b"ZeroDivisionError" in submitted.store.read(f"{submitted.paths.logs}supervisor.log")


def test_a_stop_by_the_system_is_passed_on_to_the_driver_and_no_other_one_is_started(
    submitted: RunRecord, job_of: Callable[..., Callable[[bool], Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "driver_job", lambda *arguments: job_of("interrupted", "succeeds")(False))
    before = signal.getsignal(signal.SIGTERM)

    def terminate() -> None:
        while not submitted.progress().attempt:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate, daemon=True)
    thread.start()
    try:
        code = detached.main(["--run", "fake", "--store", submitted.store.url, "--folder", "/", "--retries", "3"])
    finally:
        signal.signal(signal.SIGTERM, before)
    state = submitted.state()
    assert (code, state.state, len(state.attempts)) == (4, "retrying", 1)
