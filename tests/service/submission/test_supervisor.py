import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cluster.base import Job
from service.cluster.local_ray import LocalRay
from service.records.checkpoint_index import SavedCheckpoint
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.runs import logs
from service.submission import supervisor as module
from service.submission.supervisor import Supervisor

JobOf = Callable[..., Callable[[bool], Job]]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.05)


def wait(supervisor: Supervisor, limit: float = 40.0) -> int:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if (code := supervisor.poll()) is not None:
            return code
        time.sleep(0.05)
    supervisor.stop()
    raise AssertionError("the driver did not end")


def supervise(record: RunRecord, job_of: Callable[[bool], Job], tmp_path: Path, retries: int = 3) -> Supervisor:
    return Supervisor(record, LocalRay(tmp_path / "logs"), job_of, retries)


def test_a_driver_that_succeeds_is_started_once(submitted: RunRecord, job_of: JobOf, tmp_path: Path) -> None:
    supervisor = supervise(submitted, job_of("succeeds"), tmp_path)
    assert wait(supervisor) == 0
    assert supervisor.poll() == 0
    assert len(submitted.state().attempts) == 1


def test_what_a_driver_printed_goes_to_the_store_and_leaves_the_machine(
    submitted: RunRecord, job_of: JobOf, tmp_path: Path
) -> None:
    wait(supervise(submitted, job_of("succeeds"), tmp_path))
    assert b"driver 1 is here" in submitted.store.read(submitted.paths.driver_log(submitted.label(1)))
    assert not list((tmp_path / "logs").iterdir())


def test_no_drivers_words_replace_anothers(submitted: RunRecord, job_of: JobOf, tmp_path: Path) -> None:
    """Two that die before their first attempt, and the driver of a process that was away while another went on with the run."""
    wait(supervise(submitted, job_of("silent"), tmp_path, retries=0))
    supervise(submitted, job_of("waits"), tmp_path).stop()
    written = "".join(log.text for log in logs(submitted.store, submitted.run_id, attempt=0))
    assert written.count("driver 1 is here: silent") == 2
    late = Supervisor(submitted, LocalRay(tmp_path / "logs"), job_of("silent"), 0)
    while late.handle.poll() is None:
        time.sleep(0.05)
    successor = submitted.paths.driver_log(submitted.label(0))
    before = submitted.store.read(successor)
    late.keep_output()
    assert submitted.store.read(successor) == before


def test_of_a_run_that_was_deleted_nothing_is_written_any_more(submitted: RunRecord, job_of: JobOf, tmp_path: Path) -> None:
    supervisor = supervise(RunRecord(submitted.store, submitted.run_id), job_of("silent"), tmp_path, retries=0)
    while supervisor.handle.poll() is None:
        time.sleep(0.05)
    submitted.store.delete_prefix(submitted.paths.root)
    supervisor.keep_output()
    assert list(submitted.store.objects(submitted.paths.root)) == []
    assert not list((tmp_path / "logs").iterdir())


@pytest.mark.parametrize("death", ["killed", "odd", "interrupted"])
def test_while_the_system_stops_this_process_no_other_driver_is_started(
    submitted: RunRecord, job_of: JobOf, tmp_path: Path, death: str
) -> None:
    supervisor = supervise(submitted, job_of("waits" if death == "killed" else "interrupted", "succeeds"), tmp_path)
    while not submitted.progress().attempt:
        time.sleep(0.05)
    time.sleep(0.3)
    assert supervisor.interrupt()
    if death == "odd":
        supervisor.handle.stop()
    assert wait(supervisor) == 4
    time.sleep(0.2)
    assert supervisor.poll() == 4
    assert submitted.state().state in ("running", "retrying")


def test_a_driver_that_waits_for_its_start_is_not_started_once_the_system_stops_this_process(
    submitted: RunRecord, job_of: JobOf, tmp_path: Path
) -> None:
    supervisor = supervise(submitted, job_of("killed", "succeeds"), tmp_path)
    while not any("another one is started" in row.message for row in submitted.events()):
        assert supervisor.poll() is None
        time.sleep(0.02)
    assert supervisor.interrupt()
    time.sleep(0.1)
    assert supervisor.poll() == 4
    assert len(submitted.state().attempts) == 1


@pytest.mark.parametrize("death", ["killed", "odd"])
def test_a_driver_that_dies_is_started_again(submitted: RunRecord, job_of: JobOf, tmp_path: Path, death: str) -> None:
    assert wait(supervise(submitted, job_of(death, "succeeds"), tmp_path)) == 0
    state = submitted.state()
    assert (state.state, len(state.attempts)) == ("succeeded", 2)
    assert [row.event for row in submitted.events()] == ["driver lost"]


def test_a_run_that_failed_by_the_users_fault_is_not_tried_again(submitted: RunRecord, job_of: JobOf, tmp_path: Path) -> None:
    assert wait(supervise(submitted, job_of("fails", "succeeds"), tmp_path)) == 3
    assert len(submitted.state().attempts) == 1


def test_drivers_that_always_die_end_the_run_with_their_last_words(submitted: RunRecord, job_of: JobOf, tmp_path: Path) -> None:
    assert wait(supervise(submitted, job_of("silent"), tmp_path, retries=1)) == 4
    state = submitted.state()
    assert state.state == "failed"
    assert state.error.kind == "infrastructure"
    assert "signal 9, 3 times" in state.error.message
    assert "driver 1 is here" in state.error.message


def test_a_driver_that_dies_while_the_run_is_cancelled_is_not_replaced(
    submitted: RunRecord, job_of: JobOf, tmp_path: Path
) -> None:
    submitted.request_cancel()
    assert wait(supervise(submitted, job_of("killed", "succeeds"), tmp_path)) == 130
    assert submitted.state().state == "cancelled"
    assert not submitted.cancel_requested()


def test_a_sweeps_driver_that_dies_while_its_budget_ends_it_is_replaced(
    submitted: RunRecord, job_of: JobOf, tmp_path: Path
) -> None:
    submitted.request_cancel(reason="budget")
    assert wait(supervise(submitted, job_of("killed", "succeeds"), tmp_path)) == 0
    assert submitted.state().state == "succeeded"


@pytest.mark.parametrize("mode", ["waits", "stubborn"])
def test_stop_ends_the_driver_and_calls_the_run_cancelled(submitted: RunRecord, job_of: JobOf, tmp_path: Path, mode: str) -> None:
    supervisor = supervise(submitted, job_of(mode), tmp_path)
    while not submitted.progress().attempt:
        time.sleep(0.05)
    supervisor.stop()
    assert supervisor.poll() == 130
    assert submitted.state().state == "cancelled"


def test_a_driver_that_the_system_stopped_is_replaced(submitted: RunRecord, job_of: JobOf, tmp_path: Path) -> None:
    supervisor = supervise(submitted, job_of("interrupted", "succeeds"), tmp_path)
    while not submitted.progress().attempt:
        time.sleep(0.05)
    time.sleep(0.3)
    supervisor.handle.terminate()
    assert wait(supervisor) == 0
    assert submitted.state().state == "succeeded"
    assert "the driver was stopped by the system; another one is started" in [row.message for row in submitted.events()]


def test_deaths_with_a_new_checkpoint_between_them_are_not_counted_together(
    submitted: RunRecord, job_of: JobOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(100, 1000, 100))
    monkeypatch.setattr(submitted, "checkpoints", lambda: [SavedCheckpoint(next(steps), "")])
    assert wait(supervise(submitted, job_of(*["killed"] * 4, "succeeds"), tmp_path, retries=1)) == 0


def test_an_earlier_end_is_not_that_of_a_resumed_run(submitted: RunRecord, job_of: JobOf, tmp_path: Path) -> None:
    attempts = [{"number": 1, "started": 1.0, "finished": 2.0, "reason": "failed"}]
    submitted.write_state(StateDocument(state="failed", attempts=attempts, error=None, finished=2.0, exit_code=4))
    asked: list[bool] = []
    first, second = job_of("silent"), job_of("succeeds")

    def resuming(resume: bool) -> Job:
        asked.append(resume)
        return first(resume) if len(asked) == 1 else second(resume)

    supervisor = Supervisor(submitted, LocalRay(tmp_path / "logs"), resuming, 3, resume=True, earlier_end=2.0)
    assert wait(supervisor) == 0
    assert asked == [True, True]
    assert submitted.state().state == "succeeded"
