import json
import os
import socket
import threading
import time
from typing import Any

import pytest

from service import runs
from service.errors import Damaged, InfrastructureFailure, InvalidInput, StoreUnreachable, UnknownName
from service.records.lease import LEASE_SECONDS, Lease, SeenLease, boot_id
from service.records.run_record import RunRecord
from service.records.schemas import LeaseDocument, ProgressDocument, StateDocument, Worker
from service.records.standing import QUEUED_SECONDS, cancel_without_driver, fail_without_driver, standing
from service.records.submission_schemas import Origin
from service.records.submissions import run_summary
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.storage.json_documents import rows_to_bytes, to_bytes

SPEC = TrainSpec(model="cnn", dataset="digits", epochs=1)


def write_attempt(record: RunRecord, state: str = "running", **changes: Any) -> None:
    attempt = {"number": 1, "workers": [], "started": time.time(), "finished": None, "reason": None}
    document = {
        "state": state,
        "attempt": 1,
        "attempts": [attempt],
        "started": 5.0,
        "finished": None,
        "metrics": {},
        "error": None,
    }
    record.write_state(StateDocument.model_validate({**document, **changes}))


def write_dead_lease(record: RunRecord) -> None:
    lease = {
        "token": "t",
        "host": socket.gethostname(),
        "boot": boot_id(),
        "pid": os.getpid(),
        "pid_started": 1.0,
        "heartbeat": time.time(),
    }
    record.store.write(record.paths.lease, to_bytes({**lease, "released": False}))


def test_shows_a_run_that_waits(submitted: RunRecord) -> None:
    document = runs.show(submitted.store, "fake")
    wanted = "id kind state spec epoch step steps metrics history attempts checkpoints events error started finished"
    assert set(wanted.split()) <= set(document.document())
    assert (document.id, document.kind, document.state, document.step) == ("fake", "train", "queued", 0)
    assert document.spec == SPEC.document()
    json.dumps(document.document(), allow_nan=False)


def test_shows_a_run_that_lives(submitted: RunRecord) -> None:
    lease = Lease(submitted)
    assert lease.acquire()
    write_attempt(submitted)
    workers = [{"rank": 0, "host": "h", "pid": 7}]
    submitted.write_progress(ProgressDocument(attempt=1, epoch=2, step=12, steps=40, metrics={"loss": 0.5}, workers=workers))
    submitted.write_history([{"epoch": 1, "step": 10, "loss": 0.6}])
    submitted.store.write(
        submitted.paths.events(submitted.label(1), "driver"),
        rows_to_bytes([{"time": 2.0, "event": "b"}, {"time": 3.0, "event": "c"}]),
    )
    submitted.store.write(submitted.paths.events(submitted.label(1), "rank-0"), rows_to_bytes([{"time": 1.0, "event": "a"}]))
    submitted.store.write(submitted.paths.checkpoint(f"0000000010-{submitted.label(1)}") + "manifest.json", b"{}")
    submitted.store.write(submitted.paths.checkpoint(f"0000000012-{submitted.label(1)}") + "part", b"")
    document = runs.show(submitted.store, "fake")
    assert (document.state, document.epoch, document.step, document.steps) == ("running", 2, 12, 40)
    assert document.attempts[0].workers == (Worker(**workers[0]),)
    assert [each.path for each in document.checkpoints] == [submitted.paths.checkpoint(f"0000000010-{submitted.label(1)}")]
    assert [row.event for row in document.events] == ["a", "b", "c"]
    assert document.metrics == {"loss": 0.5}
    assert [row.document() for row in document.history] == [{"epoch": 1, "step": 10, "loss": 0.6}]


def test_progress_of_another_attempt_names_no_workers_of_this_one(submitted: RunRecord) -> None:
    write_attempt(submitted)
    submitted.write_progress(ProgressDocument(attempt=2, step=1, workers=[{"rank": 0, "host": "h", "pid": 7}]))
    assert runs.show(submitted.store, "fake").attempts[0].workers == ()


def test_a_run_whose_driver_is_gone_is_lost(submitted: RunRecord) -> None:
    write_attempt(submitted)
    write_dead_lease(submitted)
    assert runs.show(submitted.store, "fake").state == "lost"


@pytest.mark.parametrize(
    ("state", "age", "heartbeat", "seen"),
    [
        ("queued", 1.0, None, "queued"),
        ("queued", QUEUED_SECONDS + 1, None, "lost"),
        ("queued", QUEUED_SECONDS + 1, 1.0, "queued"),
        ("running", 1.0, 1.0, "running"),
        ("running", 1.0, LEASE_SECONDS + 1, "lost"),
        ("retrying", 1.0, None, "lost"),
        ("failed", 9e9, None, "failed"),
        ("succeeded", 9e9, LEASE_SECONDS + 1, "succeeded"),
    ],
)
def test_how_a_run_stands(state: str, age: float, heartbeat: float | None, seen: str) -> None:
    lease = None if heartbeat is None else SeenLease(LeaseDocument(token="t", host="elsewhere", pid=1), heartbeat)
    assert standing(StateDocument(state=state), lease, submitted_ago=age) == seen


def test_ends_a_run_that_nobody_drives_once(submitted: RunRecord) -> None:
    write_attempt(submitted)
    write_dead_lease(submitted)
    submitted.request_cancel()
    assert cancel_without_driver(submitted)
    state = submitted.state()
    assert (state.state, state.exit_code, state.attempts[0].reason) == ("cancelled", 130, "the driver was lost")
    assert state.finished is not None
    assert not submitted.cancel_requested()
    assert not fail_without_driver(submitted, InfrastructureFailure("lost"))


def test_leaves_a_run_alone_that_somebody_drives(submitted: RunRecord) -> None:
    assert Lease(submitted).acquire()
    write_attempt(submitted)
    assert not cancel_without_driver(submitted)
    assert submitted.state().state == "running"


def test_an_unknown_run_is_a_sentence(local_store: Store) -> None:
    for call in (runs.show, runs.logs, runs.cancel):
        with pytest.raises(UnknownName, match="no run 'absent'"):
            call(local_store, "absent")
    with pytest.raises(InvalidInput, match="run id"):
        runs.show(local_store, "../up")


def test_lists_runs_newest_first_and_a_damaged_one_as_such(local_store: Store) -> None:
    for number in range(3):
        record = RunRecord(local_store, f"run-{number}")
        record.claim(SPEC)
        time.sleep(0.01)
    write_attempt(RunRecord(local_store, "run-1"), "failed", error={"message": "why"}, metrics={"loss": 1.0})
    local_store.write("runs/run-0/state.json", b"{")
    local_store.write("runs/No Run/spec.json", b"{")
    local_store.write("runs/no-spec/state.json", b"{")
    rows = runs.list_runs(local_store)
    assert [(row.id, row.state) for row in rows] == [("run-2", "queued"), ("run-1", "failed"), ("run-0", "damaged")]
    assert (rows[1].error, rows[1].metrics, rows[1].model) == ("why", {"loss": 1.0}, "cnn")


@pytest.mark.parametrize(
    ("name", "document", "why"),
    [
        ("state.json", {"attempts": []}, "state is missing"),
        ("state.json", {"state": ["failed"], "summary": {}}, "state is "),
        ("state.json", {"state": "failed", "summary": {"tags": 7}}, "summary.tags is '7'"),
        ("state.json", {"state": "running", "attempts": [{"number": 1}]}, "attempts.0.started is missing"),
        ("progress.json", {"attempt": "first"}, "attempt is 'first'"),
        ("lease.json", {"token": "t", "pid": 1}, "host is missing"),
        ("spec.json", {"kind": "train"}, "spec is missing"),
        ("spec.json", {"kind": "sweep", "spec": {"base": [{}]}}, "base.0.values is missing"),
    ],
)
def test_a_document_that_does_not_fit_is_damage_with_its_key_and_field(
    submitted: RunRecord, name: str, document: dict[str, Any], why: str
) -> None:
    submitted.store.write(f"{submitted.paths.root}{name}", to_bytes(document))
    (row,) = runs.list_runs(submitted.store)
    assert row.state == "damaged"
    assert f"{submitted.paths.root}{name} is not as Delayline writes it: {why}" in row.error
    if document.get("kind") != "sweep":
        with pytest.raises(Damaged, match=why.split()[0]):
            runs.show(submitted.store, "fake")


def test_a_mistake_of_our_own_is_not_damage(submitted: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*_: Any) -> None:
        raise KeyError("stat")

    monkeypatch.setattr("service.runs.describe.standing", mistaken)
    with pytest.raises(KeyError):
        runs.list_runs(submitted.store)


def test_lists_what_lives_with_its_step(submitted: RunRecord) -> None:
    assert Lease(submitted).acquire()
    write_attempt(submitted)
    submitted.write_progress(ProgressDocument(attempt=1, step=12, steps=40))
    row = runs.list_runs(submitted.store)[0]
    assert (row.state, row.step, row.steps) == ("running", 12, 40)


def test_an_empty_store_lists_nothing(local_store: Store) -> None:
    assert runs.list_runs(local_store) == []


def test_watches_until_the_end_and_shows_each_event_once(submitted: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.updates.EVENT_SECONDS", 0.0)
    assert Lease(submitted).acquire()

    def live() -> None:
        rows = []
        for step in range(5):
            time.sleep(0.05)
            rows.append({"time": time.time(), "event": f"event {step}"})
            submitted.store.write(submitted.paths.events(submitted.label(1), "driver"), rows_to_bytes(rows))
            write_attempt(submitted)
        write_attempt(submitted, "succeeded", finished=9.0)

    thread = threading.Thread(target=live)
    thread.start()
    updates = list(runs.watch(submitted.store, "fake", interval=0.01))
    thread.join()
    assert [row.event for update in updates for row in update.events] == [f"event {step}" for step in range(5)]
    assert updates[-1].state == "succeeded"
    assert {update.state for update in updates} == {"queued", "running", "succeeded"}


def test_an_earlier_end_does_not_count(submitted: RunRecord) -> None:
    write_attempt(submitted, "failed", finished=3.0)
    watching = runs.watch(submitted.store, "fake", earlier_end=3.0, interval=0.0)
    assert next(watching).state == "queued"
    write_attempt(submitted, "failed", finished=4.0)
    assert [update.state for update in watching] == ["failed"]


def test_a_run_that_stays_alone_is_lost(submitted: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.updates.EVENT_SECONDS", 0.0)
    monkeypatch.setattr("service.runs.updates.LEASE_SECONDS", 0.1)
    write_attempt(submitted)
    states = []
    for update in runs.watch(submitted.store, "fake", interval=0.01):
        states.append(update.state)
        if update.state == "lost":
            break
    assert states[0] == "running"


def test_a_store_that_is_away_is_waited_for(submitted: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    write_attempt(submitted, "succeeded", finished=1.0)
    watching = runs.watch(submitted.store, "fake", interval=0.01, patience=0.2)

    def away(record: RunRecord) -> None:
        raise StoreUnreachable("No answer.")

    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "state", away)
        assert next(watching).problem == "No answer."
        with pytest.raises(StoreUnreachable):
            list(watching)
    assert [update.state for update in runs.watch(submitted.store, "fake")] == ["succeeded"]


def test_reads_the_logs_of_the_latest_attempt_or_of_one(submitted: RunRecord) -> None:
    for attempt in (1, 2):
        for rank in (0, 1, 10, 2):
            submitted.store.write(submitted.paths.log(submitted.label(attempt), rank), f"log {attempt} {rank}\n".encode())
    submitted.store.write(submitted.paths.driver_log(submitted.label(2)), b"driver \xff")
    submitted.store.write(f"{submitted.paths.logs}supervisor.log", b"")
    latest = runs.logs(submitted.store, "fake")
    assert [(log.attempt, log.rank) for log in latest] == [(2, None), (2, 0), (2, 1), (2, 2), (2, 10)]
    assert [log.text for log in runs.logs(submitted.store, "fake", attempt=1, rank=10)] == ["log 1 10\n"]
    with pytest.raises(UnknownName, match="attempts 1, 2"):
        runs.logs(submitted.store, "fake", attempt=3)
    with pytest.raises(UnknownName, match="rank 7"):
        runs.logs(submitted.store, "fake", rank=7)


def test_no_logs_yet(submitted: RunRecord) -> None:
    with pytest.raises(UnknownName, match="no logs yet"):
        runs.logs(submitted.store, "fake")


def test_cancels_what_nobody_drives_at_once(submitted: RunRecord) -> None:
    write_attempt(submitted)
    write_dead_lease(submitted)
    assert runs.cancel(submitted.store, "fake") == "cancelled"
    assert submitted.state().state == "cancelled"
    with pytest.raises(InvalidInput, match="ended already"):
        runs.cancel(submitted.store, "fake")


def test_asks_a_driver_to_cancel(submitted: RunRecord) -> None:
    assert Lease(submitted).acquire()
    write_attempt(submitted)
    assert runs.cancel(submitted.store, "fake") == "requested"
    assert submitted.cancel_requested()


def test_a_trial_is_listed_with_the_tags_of_its_sweep(local_store: Store) -> None:
    base = {"name": "a", "values": SPEC.document() | {"tags": ["own"]}}
    RunRecord(local_store, "s").claim(
        SweepSpec.model_validate({"base": [base], "space": {"batch": {"grid": [1]}}, "tags": ["all"]})
    )
    RunRecord(local_store, "s-0000").claim(TrainSpec.model_validate(base["values"]), Origin(sweep="s"))
    assert {row.id: row.tags for row in runs.list_runs(local_store)} == {"s": ("all",), "s-0000": ("own", "all")}


def test_a_run_that_ended_before_there_were_tags_is_listed(local_store: Store) -> None:
    record = RunRecord(local_store, "old")
    record.claim(SPEC)
    write_attempt(record, "succeeded", summary=run_summary(record.submission()).without("tags"))
    assert [row.tags for row in runs.list_runs(local_store)] == [()]


def test_an_ended_run_is_listed_from_its_state_alone(local_store: Store) -> None:
    record = RunRecord(local_store, "one")
    record.claim(SPEC)
    write_attempt(record, "succeeded", metrics={"test_accuracy": 0.9})
    (row,) = runs.list_runs(local_store)
    record.write_state(record.state().changed(summary=run_summary(record.submission())))
    assert runs.list_runs(local_store) == [row]
    local_store.delete(record.paths.spec)
    assert runs.list_runs(local_store) == [row]
