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


@pytest.mark.parametrize(("in_kubernetes", "waits"), [(True, ["until killed"]), (False, [])])
def test_a_job_in_kubernetes_whose_driver_the_system_stopped_stays_until_it_is_killed(
    submitted: RunRecord,
    job_of: Callable[..., Callable[[bool], Job]],
    monkeypatch: pytest.MonkeyPatch,
    in_kubernetes: bool,
    waits: list[str],
) -> None:
    """Its head is drained: the driver notices that by itself, and nobody tells this process."""
    waited: list[str] = []
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(detached, "driver_job", lambda *arguments: job_of("stops_itself", "succeeds")(False))
    monkeypatch.setattr(detached, "wait_until_killed", lambda say: waited.append("until killed"))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    if in_kubernetes:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    code = detached.main(["--run", "fake", "--store", submitted.store.url, "--folder", "/", "--retries", "3"])
    state = submitted.state()
    assert waited == waits
    assert (code, state.state) == ((4, "retrying") if in_kubernetes else (0, "succeeded"))


def test_a_run_that_failed_in_kubernetes_ends_its_job(
    submitted: RunRecord, job_of: Callable[..., Callable[[bool], Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "driver_job", lambda *arguments: job_of("fails")(False))
    monkeypatch.setattr(detached, "wait_until_killed", lambda say: pytest.fail("it waits"))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert detached.main(["--run", "fake", "--store", submitted.store.url, "--folder", "/", "--retries", "3"]) == 3
