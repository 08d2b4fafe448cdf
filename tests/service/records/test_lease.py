"""One driver at a time holds a lease, whose age is measured by the store's clock and by no machine's."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.errors import Conflict, InvalidInput, LeaseLost
from service.records import lease as leases
from service.records.lease import LEASE_SECONDS, Lease, SeenLease, boot_id, lease_is_live, lease_of, process_start
from service.records.run_record import RunRecord
from service.records.schemas import Attempt, LeaseDocument, StateDocument
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store
from service.storage.json_documents import to_bytes

MakeStore = Callable[[], Store]
ONE = {"number": 1, "started": 1.0}
HOUR = 3600.0


@pytest.fixture
def record(local_store: Store) -> RunRecord:
    return RunRecord(local_store, "one")


def change_lease(record: RunRecord, ago: float | None = None, **changes: Any) -> None:
    """What another machine would have written, `ago` seconds before now by the clock of the folder."""
    record.store.write(record.paths.lease, to_bytes({**record.lease().document(), **changes}))
    if ago is not None:
        moment = time.time() - ago
        os.utime(Path(record.store.url, record.paths.lease), (moment, moment))


def is_live(record: RunRecord) -> bool:
    return lease_is_live(lease_of(record))


def test_a_lease_is_taken_renewed_and_released(record: RunRecord) -> None:
    lease = Lease(record)
    assert lease.acquire() and is_live(record)
    before = record.lease().heartbeat
    lease.renew()
    assert record.lease().heartbeat >= before and record.lease().token == lease.token
    assert not Lease(record).acquire()
    lease.release()
    assert not is_live(record)
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
            change_lease(record, host="elsewhere", ago=2 * LEASE_SECONDS)
    barrier = threading.Barrier(8)

    def acquire(_: int) -> bool:
        lease = Lease(RunRecord(open_store(Settings.load(store=record.store.url)), "one"))
        barrier.wait(30)
        return lease.acquire()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(acquire, range(8))) == 1


def test_of_many_that_acquire_in_any_store_one_succeeds_until_the_lease_is_old(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(6)

    def acquire(_: int) -> Lease | None:
        lease = Lease(RunRecord(make_store(), "one"))
        lease.record.lease()
        barrier.wait(30)
        return lease if lease.acquire() else None

    with ThreadPoolExecutor(6) as pool:
        (winner,) = [lease for lease in pool.map(acquire, range(6)) if lease]
    winner.renew()
    # Its holder is another machine, whose clock is an hour ahead: that alone keeps nobody away.
    change_lease(winner.record, host="elsewhere", heartbeat=time.time() + HOUR)
    assert 0.0 <= lease_of(winner.record).age < 5.0
    assert not Lease(winner.record).acquire()
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1.0)
    time.sleep(3.1)
    assert 1.0 <= lease_of(winner.record).age < 60.0
    assert Lease(winner.record).acquire()
    with pytest.raises(LeaseLost):
        winner.renew()


@pytest.mark.parametrize("ahead", [31.0, -31.0, HOUR, -HOUR])
def test_no_clock_of_a_machine_takes_or_keeps_a_lease(record: RunRecord, monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    assert Lease(record).acquire()
    change_lease(record, host="elsewhere")
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + ahead)
    assert not Lease(record).acquire(), "it was renewed just now"
    monkeypatch.undo()
    change_lease(record, heartbeat=time.time() + ahead, ago=LEASE_SECONDS + 1)
    assert Lease(record).acquire(), "its holder was silent for too long"


def test_a_silent_driver_of_another_machine_is_taken_over(record: RunRecord) -> None:
    old, new = Lease(record), Lease(record)
    assert old.acquire()
    change_lease(record, host="elsewhere", boot="other", ago=LEASE_SECONDS - 5)
    assert not new.acquire()
    change_lease(record, ago=LEASE_SECONDS + 1)
    assert new.acquire()
    with pytest.raises(LeaseLost, match="run one") as caught:
        old.renew()
    assert caught.value.exit_code == 4
    old.release()
    assert record.lease().token == new.token and is_live(record)
    new.renew()


def test_whoever_did_not_renew_for_the_leases_length_may_not_write_until_they_did(record: RunRecord) -> None:
    now = 1000.0
    lease = Lease(record, clock=lambda: now)
    assert lease.acquire()
    record.guard = lease.assure
    record.write_state(StateDocument(state="running", attempts=[]))
    before = record.lease().beat
    now += LEASE_SECONDS - 0.1
    lease.assure()
    assert record.lease().beat == before
    now += 0.2
    record.write_state(StateDocument(state="running", attempts=[ONE]))
    assert record.lease().beat > before, "nobody had taken it: it was renewed first"
    now += LEASE_SECONDS
    change_lease(record, host="elsewhere", token="another's")
    with pytest.raises(LeaseLost, match="Another driver took over"):
        record.write_state(StateDocument(state="succeeded", attempts=[]))
    with pytest.raises(LeaseLost, match="Another driver took over"):
        record.take_state(lambda state: state.changed(state="succeeded"))
    assert RunRecord(record.store, "one").state().attempts == (Attempt(**ONE),)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that counts suspended time")
def test_the_holders_clock_counts_the_time_of_a_suspended_machine() -> None:
    assert abs(leases.seconds_awake_or_not() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5.0


def test_a_dead_driver_of_this_machine_is_taken_over_at_once(record: RunRecord) -> None:
    script = """
import sys
from service.settings import Settings
from service.storage import open_store
from service.records.lease import Lease
from service.records.run_record import RunRecord
sys.exit(0 if Lease(RunRecord(open_store(Settings.load(store=sys.argv[1])), "one")).acquire() else 1)
"""
    subprocess.run([sys.executable, "-c", script, record.store.url], check=True, timeout=60)
    assert record.lease().host == socket.gethostname() and lease_of(record).age < LEASE_SECONDS
    assert not is_live(record)
    assert Lease(record).acquire()


def test_a_process_that_has_a_dead_drivers_number_is_not_the_driver(record: RunRecord) -> None:
    assert Lease(record).acquire()
    assert is_live(record)
    (name, start), *_ = process_start(os.getpid()).items()
    change_lease(record, **{name: start - 100})
    assert not is_live(record)


def test_a_lease_of_the_first_format_is_understood(record: RunRecord) -> None:
    mine = psutil.Process()
    old = {"token": "t", "host": socket.gethostname(), "boot": boot_id(), "pid": mine.pid, "released": False}
    for step, live in ((0.0, True), (1.0, True), (-1.0, True), (100.0, False)):
        lease = {**old, "pid_started": mine.create_time() + step, "heartbeat": time.time() - HOUR}
        record.store.write(record.paths.lease, to_bytes(lease))
        assert is_live(record) == live, f"the machine's clock was set by {step} s"
    record.store.write(record.paths.lease, to_bytes({**lease, "host": "elsewhere"}))
    assert is_live(record), "a lease that another machine renewed just now, whatever its clock says"


def test_a_machine_of_the_same_name_is_known_apart(record: RunRecord) -> None:
    assert Lease(record).acquire()
    change_lease(record, pid=2**22 + 1, boot=f"not {boot_id()}")
    assert is_live(record), "its process is not here, but its heartbeat is fresh"


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
    mine = {"token": "t", "host": socket.gethostname(), "boot": boot_id(), "pid": child.pid, **process_start(child.pid)}
    lease = SeenLease(LeaseDocument(**mine), 0.0)
    assert lease_is_live(lease)
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not lease_is_live(lease)
    child.wait()
    assert not lease_is_live(lease)
