"""Two attempts at one run's checkpoints: the one that is over takes nothing away, and nothing complete is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import s3_servers

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from service.errors import LeaseLost, NotFound, StoreError
from service.records.checkpoint_index import MANIFEST, CheckpointIndex, SavedCheckpoint
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.parts import CheckpointPolicy
from service.specs.train import TrainSpec
from service.storage import open_store
from service.storage.base import Store
from service.storage.local import LocalStore

SPEC = TrainSpec(model="cnn", dataset="digits", epochs=1)
ONE = CheckpointPolicy(every_steps=1, keep_last=1, keep_best=0)


@pytest.fixture(params=["folder", "seaweedfs", "minio"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        return LocalStore(tmp_path / "store")
    server: s3_servers.S3Server = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(Settings.load(store=f"s3://{server.bucket()}/lab"))


@pytest.fixture
def record(store: Store) -> RunRecord:
    made = RunRecord(store, "a-run")
    assert made.claim(SPEC)
    return made


def attempt(record: RunRecord, number: int, policy: CheckpointPolicy = ONE) -> CheckpointStore:
    """A process of an attempt: it has a record of its own."""
    own = RunRecord(record.store, record.run_id, record.nonce)
    return CheckpointStore(own, policy, own.label(number))


def snapshot(step: int, whose: int) -> Snapshot:
    return Snapshot(step, 1, {"00000 a": np.full(2, whose)}, {}, [{"step": step}], {})


def never(step: int, why: str) -> None:
    raise AssertionError(f"{step} is damaged: {why}")


def folders(record: RunRecord) -> list[str]:
    """Those that hold anything; SeaweedFS lists empty ones for a while."""
    return sorted({info.key.split("/")[-2] for info in record.store.objects(record.paths.checkpoints)})


def newest(record: RunRecord) -> tuple[int, int]:
    """Step of the newest checkpoint, and who saved it."""
    found = CheckpointStore(RunRecord(record.store, record.run_id), ONE).load_newest(never)
    assert found is not None
    return found.step, int(found.model["00000 a"][0])


def test_an_attempt_that_is_over_takes_nothing_away(record: RunRecord) -> None:
    old, new = attempt(record, 1), attempt(record, 2)
    old.adopt(0)
    old.save(snapshot(10, 1))
    new.adopt(10)
    new.save(snapshot(20, 2))
    for step in (10, 20, 30):
        with pytest.raises(LeaseLost):
            old.save(snapshot(step, 1))
        assert newest(record) == (20, 2)
    with pytest.raises(LeaseLost):
        old.adopt(0)
    with pytest.raises(LeaseLost):
        attempt(record, 1).adopt(0)
    assert newest(record) == (20, 2)
    new.save(snapshot(30, 2))
    assert newest(record) == (30, 2)


def test_a_checkpoint_that_was_completed_and_not_noted_is_resumed_from(
    record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = attempt(record, 1)
    old.adopt(0)
    old.save(snapshot(10, 1))
    write = record.store.write

    def killed(key: str, data: bytes, **more: Any) -> str:
        if key == record.paths.checkpoint_index:
            raise StoreError("killed")
        return write(key, data, **more)

    with monkeypatch.context() as patched, pytest.raises(StoreError):
        patched.setattr(old.record.store, "write", killed)
        old.save(snapshot(20, 1))
    assert newest(record) == (20, 1)
    assert [each.step for each in record.checkpoints()] == [10] and record.step_to_resume_from() == 20
    new = attempt(record, 2)
    new.adopt(20)
    assert [each.step for each in record.checkpoints()] == [10, 20]
    new.save(snapshot(30, 2))
    assert [each.step for each in record.checkpoints()] == [30]
    assert len(folders(record)) == 1


def test_a_successor_between_the_manifest_and_the_index_has_the_run(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old attempt stands still between the two writes of a save; the new one takes over, saves, and the old one continues."""
    old, new = attempt(record, 1), attempt(record, 2)
    old.adopt(0)
    old.save(snapshot(10, 1))
    replace = CheckpointIndex.replace

    def stands_still(index: CheckpointIndex, kept: Any) -> None:
        monkeypatch.undo()
        new.adopt(20)
        new.save(snapshot(30, 2))
        replace(index, kept)

    monkeypatch.setattr(CheckpointIndex, "replace", stands_still)
    with pytest.raises(LeaseLost):
        old.save(snapshot(20, 1))
    assert newest(record) == (30, 2)
    assert [each.step for each in record.checkpoints()] == [30]


def test_an_old_attempt_that_writes_while_the_new_one_takes_over_does_not_stop_it(
    record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = attempt(record, 1), attempt(record, 2)
    old.adopt(0)
    old.save(snapshot(10, 1))
    take = CheckpointIndex.take
    turns = iter([20, 30])

    def take_slowly(index: CheckpointIndex, choose: Any) -> Any:
        def meanwhile(found: Any) -> Any:
            if (step := next(turns, None)) is not None:
                old.save(snapshot(step, 1))
            return choose(found)

        return take(index, meanwhile)

    monkeypatch.setattr(CheckpointIndex, "take", take_slowly)
    new.adopt(30)
    assert newest(record) == (30, 1)
    with pytest.raises(LeaseLost):
        old.save(snapshot(40, 1))
    new.save(snapshot(40, 2))
    assert newest(record) == (40, 2)


def test_what_is_written_behind_a_deletion_is_not_the_next_runs(record: RunRecord) -> None:
    zombie = attempt(record, 1)
    zombie.adopt(0)
    zombie.save(snapshot(10, 1))
    store = record.store
    store.delete_prefix(record.paths.root)
    with pytest.raises(LeaseLost):
        zombie.save(snapshot(20, 1))
    again = RunRecord(store, "a-run")
    assert again.claim(SPEC)
    assert again.checkpoints() == []
    assert CheckpointStore(again, ONE).load_newest(never) is None
    # It may even begin anew, where it had seen that the run is its own and not yet that it was deleted.
    own = attempt(again, 1)
    own.adopt(0)
    own.save(snapshot(5, 7))
    for number in (2, 3):
        with pytest.raises(LeaseLost):
            CheckpointStore(RunRecord(store, "a-run", record.nonce), ONE, record.label(number)).adopt(0)
    with pytest.raises(LeaseLost):
        zombie.save(snapshot(30, 1))
    assert newest(again) == (5, 7)


def test_an_index_that_a_zombie_left_is_replaced(record: RunRecord) -> None:
    zombie = attempt(record, 9)
    store = record.store
    store.delete_prefix(record.paths.root)
    zombie.record.check_claim = lambda: None  # type: ignore[method-assign]
    zombie.__post_init__()
    zombie.save(snapshot(50, 1))
    again = RunRecord(store, "a-run")
    assert again.claim(SPEC)
    assert again.checkpoints() == []
    own = attempt(again, 1)
    own.adopt(0)
    own.save(snapshot(5, 7))
    assert newest(again) == (5, 7)
    with pytest.raises(LeaseLost):
        zombie.save(snapshot(60, 1))
    assert newest(again) == (5, 7)


def test_a_store_of_the_first_format_is_resumed_from(store: Store) -> None:
    record = RunRecord(store, "old")
    made = CheckpointStore(record, CheckpointPolicy(every_steps=1, keep_last=9), "0001")
    for step in (10, 20, 30):
        made.save(snapshot(step, 1))
    for info in list(store.objects(record.paths.checkpoints)):
        folder, name = info.key[len(record.paths.checkpoints) :].split("/")
        store.write(record.paths.checkpoint(folder.partition("-")[0]) + name, store.read(info.key))
        store.delete(info.key)
    store.delete(record.paths.checkpoint_index)
    store.delete(record.paths.checkpoint("0000000030") + MANIFEST)
    assert record.checkpoints() == [
        SavedCheckpoint(10, "runs/old/checkpoints/0000000010/"),
        SavedCheckpoint(20, "runs/old/checkpoints/0000000020/"),
    ]
    assert newest(record) == (20, 1)
    new = attempt(record, 2)
    new.adopt(20)
    assert folders(record) == ["0000000010", "0000000020"]
    new.save(snapshot(30, 2))
    assert folders(record) == ["0000000030-0002"]
    assert newest(record) == (30, 2)


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["adopt", "save", "killed before the index", "killed before a deletion"])),
    max_size=14,
)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_in_any_order_the_newest_checkpoint_is_never_lost(tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    """Three attempts that all believe to be at work: whoever has the index goes forward, and nobody goes back behind it."""
    record = RunRecord(LocalStore(tmp_path_factory.mktemp("store")), "a-run")
    record.claim(SPEC)
    attempts = {number: attempt(record, number + 1) for number in range(3)}
    begun: dict[int, int] = {}
    reached, owner = 0, -1

    def stop_at(place: str, wanted: Callable[[str], bool], do: Callable[[], None]) -> None:
        store = record.store
        original = getattr(store, place)

        def killed(key: str, *rest: Any, **more: Any) -> Any:
            if wanted(key):
                raise StoreError("killed")
            return original(key, *rest, **more)

        setattr(store, place, killed)
        try:
            do()
        except StoreError as error:
            if isinstance(error, NotFound):
                raise
        finally:
            setattr(store, place, original)

    for number, what in steps:
        made = attempts[number]
        if what == "adopt" or number not in begun:
            found = CheckpointStore(RunRecord(record.store, "a-run"), ONE).load_newest(never)
            step = found.step if found else 0
            assert step >= reached, "a complete checkpoint was lost"
            if number < owner:
                with pytest.raises(LeaseLost):
                    made.adopt(step)
                continue
            made.adopt(step)
            begun[number], owner, reached = step, number, step
            continue
        begun[number] += 1

        def save(made: CheckpointStore = made, number: int = number) -> None:
            made.save(snapshot(begun[number], number))

        if number != owner:
            with pytest.raises(LeaseLost):
                save()
        elif what == "killed before the index":
            stop_at("write", lambda key: key.endswith("checkpoints.json"), save)
        else:
            kills = what == "killed before a deletion"
            stop_at("delete", lambda key, kills=kills: kills, save)
            reached = max(reached, begun[number])
        found = CheckpointStore(RunRecord(record.store, "a-run"), ONE).load_newest(never)
        assert (found.step if found else 0) >= reached
