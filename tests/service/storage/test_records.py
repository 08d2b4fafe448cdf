"""A run's documents: claimed once, driven under a lease that one driver holds at a time."""

import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Conflict, Damaged, InvalidInput, LeaseLost, UnknownName
from service.settings import Settings
from service.specs import TrainSpec
from service.storage import open_store
from service.storage.base import Store
from service.storage.records import (
    LEASE_SECONDS,
    Lease,
    RunRecord,
    boot_id,
    from_bytes,
    lease_is_live,
    rows_from_bytes,
    rows_to_bytes,
    to_bytes,
)

SPEC = TrainSpec(model="cnn", dataset="digits", epochs=1)
ORIGIN = {"recipe": "cnn-digits"}


@pytest.fixture
def record(local_store: Store) -> RunRecord:
    return RunRecord(local_store, "one")


def change_lease(record: RunRecord, **changes: Any) -> None:
    """What another machine would have written."""
    record.store.write(record.paths.lease, to_bytes({**record.lease(), **changes}))


def test_a_run_is_claimed_once(record: RunRecord) -> None:
    assert record.claim(SPEC, ORIGIN)
    assert not RunRecord(record.store, "one").claim(SPEC.model_copy(update={"epochs": 9}), ORIGIN)
    assert record.spec() == SPEC and record.submission()["recipe"] == "cnn-digits"


def test_of_many_claims_at_once_one_succeeds(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def claim(number: int) -> bool:
        record = RunRecord(open_store(Settings.load(store=str(tmp_path / "store"))), "one")
        barrier.wait(30)
        return record.claim(SPEC, {"command": number})

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_an_unknown_run_is_named(record: RunRecord) -> None:
    with pytest.raises(UnknownName, match=r"no run 'one' in .*runs list") as caught:
        record.submission()
    assert caught.value.exit_code == 2


def test_documents_that_were_not_written_yet_are_empty(record: RunRecord) -> None:
    assert record.state()["state"] == "queued"
    assert record.progress() == record.lease() == {} and record.history() == record.events() == record.checkpoints() == []
    assert not record.cancel_requested()


def test_documents_come_back(record: RunRecord) -> None:
    record.write_state({"state": "running", "attempts": [], "error": None})
    record.write_progress({"step": 3})
    record.write_history([{"step": 1}, {"step": 2, "loss": 0.5}])
    assert record.state()["state"] == "running" and record.progress()["step"] == 3
    assert record.history() == [{"step": 1}, {"step": 2, "loss": 0.5}]
    record.request_cancel()
    assert record.cancel_requested()
    record.clear_cancel()
    record.clear_cancel()
    assert not record.cancel_requested()


def test_events_of_all_writers_are_in_order_of_time(record: RunRecord) -> None:
    for attempt, writer, times in ((1, "driver", [1.0, 4.0]), (1, "rank-0", [2.0, 3.0]), (2, "driver", [0.5])):
        rows = [{"time": moment, "event": writer} for moment in times]
        record.store.write(record.paths.events(record.label(attempt), writer), rows_to_bytes(rows))
    assert [row["time"] for row in record.events()] == [0.5, 1.0, 2.0, 3.0, 4.0]


def test_only_complete_checkpoints_count(record: RunRecord) -> None:
    for step, name in ((200, "manifest.json"), (30, "manifest.json"), (300, "part-0")):
        record.store.write(record.paths.checkpoint(f"{step:010d}") + name, b"{}")
    assert [checkpoint["step"] for checkpoint in record.checkpoints()] == [30, 200]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b'"text"', b"{}", b'{"format": 2}'])
def test_a_document_that_is_none_is_damaged(record: RunRecord, data: bytes) -> None:
    record.store.write(record.paths.state, data)
    with pytest.raises(Damaged, match=r"runs/one/state.json") as caught:
        record.state()
    assert caught.value.exit_code == 5


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3), max_size=5), st.data())
def test_rows_survive_a_cut(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    written = rows_to_bytes(rows)
    assert rows_from_bytes(written) == rows
    cut = rows_from_bytes(written[: data.draw(st.integers(0, len(written)))])
    assert cut == rows[: len(cut)]


@given(
    st.dictionaries(st.text(max_size=5).filter(lambda name: name != "format"), st.floats(allow_nan=False, allow_infinity=False))
)
def test_documents_are_json(document: dict[str, Any]) -> None:
    assert from_bytes(to_bytes(document), "key") == {"format": 1, **document}


def test_a_nan_is_never_written() -> None:
    with pytest.raises(ValueError):
        to_bytes({"loss": float("nan")})


def test_a_lease_is_taken_renewed_and_released(record: RunRecord) -> None:
    lease = Lease(record)
    assert lease.acquire() and lease_is_live(record.lease())
    before = record.lease()["heartbeat"]
    lease.renew()
    assert record.lease()["heartbeat"] >= before and record.lease()["token"] == lease.token
    assert not Lease(record).acquire()
    lease.release()
    assert not lease_is_live(record.lease())
    assert Lease(record).acquire()


def test_the_same_token_takes_its_lease_again(record: RunRecord) -> None:
    lease = Lease(record)
    assert lease.acquire() and Lease(record, lease.token).acquire()


def test_a_lease_that_was_never_acquired_cannot_be_renewed(record: RunRecord) -> None:
    with pytest.raises(InvalidInput, match="acquire"):
        Lease(record).renew()


@pytest.mark.parametrize("before", ["none", "released", "stale"])
def test_of_many_that_acquire_at_once_one_succeeds(record: RunRecord, before: str) -> None:
    if before != "none":
        first = Lease(record)
        assert first.acquire()
        if before == "released":
            first.release()
        else:
            change_lease(record, host="elsewhere", heartbeat=time.time() - 2 * LEASE_SECONDS)
    barrier = threading.Barrier(8)

    def acquire(_: int) -> bool:
        lease = Lease(RunRecord(open_store(Settings.load(store=record.store.url)), "one"))
        barrier.wait(30)
        return lease.acquire()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(acquire, range(8))) == 1


@pytest.mark.parametrize("server", ["seaweedfs", "minio"])
def test_on_s3_one_of_many_acquires(server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    running = request.getfixturevalue(server)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{running.bucket()}"
    barrier = threading.Barrier(6)

    def acquire(_: int) -> Lease | None:
        lease = Lease(RunRecord(open_store(Settings.load(store=url)), "one"))
        lease.record.lease()
        barrier.wait(30)
        return lease if lease.acquire() else None

    with ThreadPoolExecutor(6) as pool:
        winners = [lease for lease in pool.map(acquire, range(6)) if lease]
    assert len(winners) == 1
    winners[0].renew()
    change_lease(winners[0].record, host="elsewhere", heartbeat=time.time() - 2 * LEASE_SECONDS)
    assert Lease(winners[0].record).acquire()
    with pytest.raises(LeaseLost):
        winners[0].renew()


def test_a_silent_driver_of_another_machine_is_taken_over(record: RunRecord) -> None:
    old, new = Lease(record), Lease(record)
    assert old.acquire()
    change_lease(record, host="elsewhere", boot="other", heartbeat=time.time() - LEASE_SECONDS + 5)
    assert not new.acquire()
    change_lease(record, heartbeat=time.time() - LEASE_SECONDS - 1)
    assert new.acquire()
    with pytest.raises(LeaseLost, match="run one") as caught:
        old.renew()
    assert caught.value.exit_code == 4
    old.release()
    assert record.lease()["token"] == new.token and lease_is_live(record.lease())
    new.renew()


def test_a_dead_driver_of_this_machine_is_taken_over_at_once(record: RunRecord) -> None:
    script = """
import sys
from service.settings import Settings
from service.storage import open_store
from service.storage.records import Lease, RunRecord
sys.exit(0 if Lease(RunRecord(open_store(Settings.load(store=sys.argv[1])), "one")).acquire() else 1)
"""
    subprocess.run([sys.executable, "-c", script, record.store.url], check=True, timeout=60)
    assert record.lease()["host"] == socket.gethostname() and time.time() - record.lease()["heartbeat"] < LEASE_SECONDS
    assert not lease_is_live(record.lease())
    assert Lease(record).acquire()


def test_a_process_that_has_a_dead_drivers_number_is_not_the_driver(record: RunRecord) -> None:
    assert Lease(record).acquire()
    assert lease_is_live(record.lease())
    change_lease(record, pid_started=record.lease()["pid_started"] - 100)
    assert not lease_is_live(record.lease())


def test_a_machine_of_the_same_name_is_told_apart(record: RunRecord) -> None:
    assert Lease(record).acquire()
    change_lease(record, pid=2**22 + 1, boot=f"not {boot_id()}")
    assert lease_is_live(record.lease()), "its process is not here, but its heartbeat is fresh"


def test_a_renewal_whose_answer_was_lost_is_no_takeover(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease(record)
    assert lease.acquire()
    write = record.store.write

    def write_and_forget(key: str, data: bytes, **condition: Any) -> str:
        write(key, data, **condition)
        raise Conflict("the answer to the first try was lost")

    with monkeypatch.context() as patched:
        patched.setattr(record.store, "write", write_and_forget)
        lease.renew()
    lease.renew()
    assert json.loads(record.store.read(record.paths.lease))["token"] == lease.token


def test_a_lease_document_that_vanished_is_reported_in_our_words(record: RunRecord) -> None:
    lease = Lease(record)
    assert lease.acquire()
    record.store.delete(record.paths.lease)
    with pytest.raises(LeaseLost):
        lease.renew()
    lease.release()


def test_a_killed_holder_that_nobody_waited_for_holds_nothing() -> None:

    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = psutil.Process(child.pid).create_time()
    mine = {"token": "t", "host": socket.gethostname(), "boot": boot_id(), "pid": child.pid, "pid_started": started}
    lease = {**mine, "heartbeat": time.time(), "released": False}
    assert lease_is_live(lease)
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not lease_is_live(lease)
    child.wait()
