"""Two drivers of one run that are paused, killed, unheard and of wrong clocks: no document goes back, no checkpoint and no cancel is lost."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.errors import Conflict, LeaseLost, StoreUnreachable
from service.records.checkpoint_index import MANIFEST, CheckpointIndex, Kept, kept_checkpoints
from service.records.lease import LEASE_SECONDS, Lease
from service.records.run_record import RunRecord
from service.records.schemas import Attempt, ProgressDocument, StateDocument
from service.records.submission_schemas import Origin
from service.specs.train import TrainSpec
from service.storage.base import Seen, Store
from service.storage.local import TEMPORARY, LocalStore

MakeStore = Callable[[], Store]
ONE, TWO = ({"number": number, "started": 1.0} for number in (1, 2))
SPEC = TrainSpec(model="cnn", dataset="digits", epochs=1)


class World:
    """The store's clock, by which alone the age of an object is measured."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.written: dict[str, float] = {}


class Connection(LocalStore):
    """One process's way to the store, which may lose answers, or let others come in between just before a write."""

    def __init__(self, folder: Path, world: World) -> None:
        super().__init__(folder)
        self.world = world
        self.loses: str | None = None
        self.before_write: Callable[[], None] | None = None

    def read_aged(self, key: str) -> Seen:
        return super().read_aged(key)._replace(age=self.world.now - self.world.written[key])

    def write(self, key: str, data: bytes, **condition: Any) -> str:
        between, self.before_write = self.before_write, None
        if between is not None:
            between()
        loses, self.loses = self.loses, None
        if loses == "request":
            raise StoreUnreachable("The request was lost.")
        version = super().write(key, data, **condition)
        self.world.written[key] = self.world.now
        if loses == "answer":
            raise StoreUnreachable("The answer was lost.")
        return version


class PlayedDriver:
    """What a driver and its rank 0 do to the store, in steps between which anything may happen."""

    def __init__(self, folder: Path, world: World, number: int) -> None:
        self.folder, self.world, self.number = folder, world, number
        self.offset = 0.0
        self.gone()

    def gone(self) -> None:
        """Killed, or ended: nothing of it is left but what is in the store."""
        self.phase = "none"
        self.store = Connection(self.folder, self.world)
        self.record = RunRecord(self.store, "one")

    def acquire(self) -> None:
        machine = {"host": f"machine-{self.number}", "boot": str(self.number), "heartbeat": self.world.now + self.offset}
        self.lease = Lease(
            self.record, clock=lambda: self.world.now + self.offset, completed=lambda document: document.changed(**machine)
        )
        if self.lease.acquire():
            self.record.guard, self.phase = self.lease.assure, "holds"

    def take_over(self) -> None:
        def take(previous: StateDocument) -> StateDocument:
            attempts = [*previous.attempts, {"number": len(previous.attempts) + 1, "started": 0.0, "finished": None}]
            return StateDocument(state="running", attempts=attempts, step=0, handled_cancel=previous.handled_cancel)

        self.state = self.record.take_state(take)
        label = self.record.label(len(self.state.attempts))
        self.index = CheckpointIndex(self.store, self.record.paths, self.record.nonce, label, self.record.check_claim)
        self.phase = "drives"

    def step(self) -> None:
        self.state = self.state.changed(step=self.state.step + 1)
        self.record.write_state(self.state)

    def save(self) -> None:
        kept = self.index.kept()
        step = max((each.step for each in kept), default=0) + 1
        folder = self.index.new_folder(step)
        self.store.write(f"{self.record.paths.checkpoint(folder)}{MANIFEST}", b"{}")
        wanted = [*kept, Kept(step, folder)][-2:]
        self.index.replace(wanted)
        for each in kept:
            if each not in wanted:
                self.store.delete(f"{self.record.paths.checkpoint(each.folder)}{MANIFEST}")

    def finish(self) -> None:
        asked = self.record.cancel_requested()
        result = "cancelled" if asked else "succeeded"
        self.state = self.record.with_handled_cancel(self.state.changed(state=result))
        self.record.write_state(self.state)
        self.lease.release()
        self.gone()


@settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
class TwoDrivers(RuleBasedStateMachine):
    @initialize(ahead=st.sampled_from([0.0, 31.0, -31.0, 3600.0]))
    def begin(self, ahead: float) -> None:
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        self.world = World()
        self.drivers = [PlayedDriver(root, self.world, number) for number in range(2)]
        self.drivers[1].offset = ahead
        self.reader = RunRecord(Connection(root, self.world), "one")
        assert self.reader.claim(SPEC)
        self.newest: tuple[int, int, bool] = (0, 0, False)
        self.newest_checkpoint = 0
        self.owes_cancel = False

    def teardown(self) -> None:
        self.folder.cleanup()

    def _do(self, driver: PlayedDriver, act: Callable[[], None]) -> None:
        try:
            act()
        except LeaseLost:
            driver.gone()
        except StoreUnreachable:
            pass

    @rule(which=st.integers(0, 1))
    def goes_on(self, which: int) -> None:
        driver = self.drivers[which]
        ended = self.reader.state().is_ended
        if driver.phase == "none" and not ended:
            self._do(driver, driver.acquire)
        elif driver.phase == "holds":
            undisturbed = driver.store.before_write is None
            self._do(driver, driver.take_over)
            if undisturbed and driver.phase == "drives":
                assert self.reader.lease().token == driver.lease.token, "it took the run over under another one's lease"
        elif driver.phase == "drives":
            self._do(driver, driver.step)

    @rule(which=st.integers(0, 1))
    def saves(self, which: int) -> None:
        driver = self.drivers[which]
        if driver.phase == "drives":
            self._do(driver, driver.save)

    @rule(which=st.integers(0, 1))
    def renews(self, which: int) -> None:
        driver = self.drivers[which]
        if driver.phase != "none":
            self._do(driver, driver.lease.renew)

    @rule(which=st.integers(0, 1))
    def finishes(self, which: int) -> None:
        driver = self.drivers[which]
        if driver.phase == "drives":
            self._do(driver, driver.finish)

    @rule(seconds=st.sampled_from([5.0, 25.0, LEASE_SECONDS + 1.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(which=st.integers(0, 1))
    def is_stopped_between_two_writes(self, which: int) -> None:
        """And continues once the other one has taken over."""
        self.world.now += LEASE_SECONDS + 1.0
        for _ in range(3):
            self.goes_on(1 - which)
        self.goes_on(which)

    @rule(which=st.integers(0, 1))
    def is_killed(self, which: int) -> None:
        self.drivers[which].gone()

    @rule(which=st.integers(0, 1), what=st.sampled_from(["request", "answer"]))
    def goes_unheard(self, which: int, what: str) -> None:
        self.drivers[which].store.loses = what

    @rule(which=st.integers(0, 1), act=st.sampled_from(["goes_on", "saves", "renews", "finishes"]))
    def is_stopped_in_the_middle(self, which: int, act: str) -> None:
        """Just before its next write; the other one takes over meanwhile."""
        other = self.drivers[1 - which]

        def meanwhile() -> None:
            self.world.now += LEASE_SECONDS + 1.0
            other.gone()
            if not self.reader.state().is_ended:
                self._do(other, other.acquire)
            if other.phase == "holds":
                self._do(other, other.take_over)
            if other.phase == "drives":
                self._do(other, other.save)
            self.no_state_goes_back()
            self.no_complete_checkpoint_is_lost()

        self.drivers[which].store.before_write = meanwhile
        getattr(self, act)(which)

    @rule()
    def a_person_cancels(self) -> None:
        if not self.reader.state().is_ended:
            self.reader.request_cancel()
            self.owes_cancel = True

    @precondition(lambda self: self.reader.state().is_ended)
    @rule()
    def a_person_resumes(self) -> None:
        asked = getattr(self.reader.cancel.standing(), "id", None)
        if asked:
            self.reader.cancel.withdraw(request=asked)
        self.owes_cancel = False
        driver = self.drivers[0]
        driver.gone()
        self._do(driver, driver.acquire)
        if driver.phase == "holds":
            self._do(driver, driver.take_over)

    @invariant()
    def no_state_goes_back(self) -> None:
        state = self.reader.state()
        seen = (len(state.attempts), getattr(state, "step", 0), state.is_ended)
        assert seen >= self.newest, f"{seen} was written over {self.newest}"
        self.newest = seen

    @invariant()
    def no_complete_checkpoint_is_lost(self) -> None:
        kept = kept_checkpoints(self.reader.store, self.reader.paths, self.reader.nonce)
        newest = max((each.step for each in kept), default=0)
        assert newest >= self.newest_checkpoint
        self.newest_checkpoint = newest
        for each in kept:
            assert self.reader.store.exists(f"{self.reader.paths.checkpoint(each.folder)}{MANIFEST}"), each

    @invariant()
    def no_cancel_is_lost(self) -> None:
        if not self.owes_cancel:
            return
        if self.reader.state().is_ended:
            self.owes_cancel = False
        else:
            assert RunRecord(self.reader.store, "one").cancel_requested()


TestTwoDrivers = TwoDrivers.TestCase


def test_a_stale_driver_between_its_look_and_its_write(make_store: MakeStore) -> None:
    """By hand, on each kind of store: the successor writes while the first one's request is on its way."""
    first, second = (RunRecord(make_store(), "one") for _ in range(2))
    assert first.claim(SPEC)
    lease = Lease(first, completed=lambda document: document.changed(host="elsewhere"))
    assert lease.acquire()
    first.guard = lease.assure
    first.take_state(lambda state: state.changed(state="running", attempts=[ONE]))
    write = first.store.write

    def late(key: str, data: bytes, **condition: Any) -> str:
        first.store.write = write  # type: ignore[method-assign]
        second.take_state(lambda state: state.changed(state="succeeded", attempts=[ONE, TWO]))
        return write(key, data, **condition)

    first.store.write = late  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        first.write_state(StateDocument(state="running", attempts=[ONE]))
    assert RunRecord(make_store(), "one").state().attempts == (Attempt(**ONE), Attempt(**TWO))


def test_what_was_pruned_is_written_anew_by_nobody(make_store: MakeStore) -> None:
    zombie = RunRecord(make_store(), "one")
    assert zombie.claim(SPEC)
    lease = Lease(zombie)
    assert lease.acquire()
    zombie.guard = lease.assure
    zombie.take_state(lambda state: state.changed(state="running"))
    zombie.request_cancel()
    make_store().delete_prefix(zombie.paths.root)
    for late in (
        lease.renew,
        lambda: zombie.write_state(StateDocument(state="running")),
        lambda: zombie.replace_spec(SPEC, Origin()),
    ):
        with pytest.raises((LeaseLost, Conflict)):
            late()
    late_progress = RunRecord(make_store(), "one", zombie.nonce)
    late_progress.write_progress(ProgressDocument(step=900))
    late_progress.request_cancel()
    fresh = RunRecord(make_store(), "one")
    assert fresh.claim(SPEC) and fresh.nonce != zombie.nonce
    assert fresh.progress().document() == {} and fresh.state().state == "queued" and not fresh.cancel_requested()


DRIVER = """
import sys, time
from service.records import lease as leases
from service.records.lease import Lease
from service.storage.local import TEMPORARY, LocalStore
from service.records.run_record import RunRecord
leases.LEASE_SECONDS = 0.5
record = RunRecord(LocalStore(__import__("pathlib").Path(sys.argv[1])), "one")
lease = Lease(record, completed=lambda document: document.changed(host=sys.argv[2]))
assert lease.acquire()
record.guard = lease.assure
state = record.take_state(lambda found: found.changed(state="running", by=sys.argv[2], step=0))
print("drives", flush=True)
while True:
    state = state.changed(step=state.step + 1)
    record.write_state(state)
    if state.step % 20 == 0:
        lease.renew()
"""


def stop_between_writes(pid: int, folder: Path) -> None:
    """Stop a process where it holds no lock of a folder: one that does keeps all others out until it continues."""
    for _ in range(200):
        os.kill(pid, signal.SIGSTOP)
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)
        if not any(is_locked(path) for path in (folder / TEMPORARY).glob("lock-*")):
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.007)
    raise AssertionError("the driver held a lock each time that it was stopped")


def is_locked(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_driver_that_was_stopped_for_longer_than_its_lease_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.records.lease.LEASE_SECONDS", 0.5)
    for number in range(4):
        folder = tmp_path / str(number)
        reader = RunRecord(LocalStore(folder), "one")
        reader.claim(SPEC)
        argv = [sys.executable, "-c", DRIVER, str(folder), "another machine"]
        driver = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert driver.stdout and driver.stdout.readline() == "drives\n"
            time.sleep(0.1 + 0.013 * number)
            stop_between_writes(driver.pid, folder)
            lease, end = Lease(reader), time.monotonic() + 20
            while not lease.acquire():
                assert time.monotonic() < end
                time.sleep(0.1)
            reader.guard = lease.assure
            final = reader.take_state(lambda state: state.changed(state="succeeded", by="the successor"))
            os.kill(driver.pid, signal.SIGCONT)
            assert driver.wait(20) == 1 and "LeaseLost" in driver.stderr.read()  # type: ignore[union-attr]
            found = RunRecord(LocalStore(folder), "one").state().document()
            assert found | {"revision": ""} == final.document() | {"format": 1, "revision": "", "nonce": reader.nonce}
        finally:
            driver.kill()
            driver.communicate()
