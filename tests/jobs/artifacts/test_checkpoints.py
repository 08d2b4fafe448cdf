"""Checkpoints: what is saved comes back bit for bit, what is damaged is noticed, what is not wanted goes."""

import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from jobs.artifacts.checkpoints import CheckpointStore, CheckpointWriter, Snapshot, jsonable
from service.errors import Damaged, InfrastructureFailure, LeaseLost, NotFound, StoreError
from service.records.checkpoint_index import MANIFEST
from service.records.run_record import RunRecord
from service.specs.train import CheckpointPolicy
from service.storage.base import Store
from service.storage.json_documents import from_bytes, to_bytes
from service.storage.local import LocalStore
from service.storage.paths import RunPaths

FILES = ("model.safetensors", "optimizer.safetensors", "history.jsonl", MANIFEST)
PATHS = RunPaths("a-run")
KEEP_ALL = CheckpointPolicy(every_steps=1, keep_last=1000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store")


def checkpoints(store: Store, policy: CheckpointPolicy = KEEP_ALL, label: str = "0001", **more: Any) -> CheckpointStore:
    return CheckpointStore(RunRecord(store, "a-run"), policy, label, **more)


def path_of(store: Store, step: int) -> str:
    (name,) = (name for name in store.list_folders(PATHS.checkpoints) if name.startswith(f"{step:010d}"))
    return PATHS.checkpoint(name)


def snapshot(step: int, score: float | None = None, **values: Any) -> Snapshot:
    made = {
        "epoch": 1,
        "model": {"00000 dense/kernel": np.full((2, 3), step, np.float32), "00001 dense/bias": np.zeros(3, np.float32)},
        "optimizer": {"00000 iteration": np.array(step)},
        "history": [{"step": step, "loss": 0.5}],
        "position": {"row_sums": [0.1, 2.0], "callbacks": []},
        **values,
    }
    return Snapshot(step=step, score=score, **made)


def steps_there(store: Store) -> list[int]:
    return [int(name.partition("-")[0]) for name in store.list_folders(PATHS.checkpoints)]


def never(step: int, why: str) -> None:
    raise AssertionError(f"{step} is damaged: {why}")


def flip(store: Store, step: int, name: str) -> None:
    key = path_of(store, step) + name
    data = bytearray(store.read(key))
    data[len(data) // 2] ^= 0xFF
    store.write(key, bytes(data))


ARRAYS = st.sampled_from(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]).flatmap(
    lambda kind: npst.arrays(np.dtype(kind), npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    model=st.dictionaries(st.text("abc/ 0_é", min_size=1), ARRAYS, max_size=4),
    optimizer=st.dictionaries(st.text("abc/ 0_", min_size=1), ARRAYS, max_size=2),
    score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    loss=st.floats(allow_nan=False, allow_infinity=False),
)
def test_a_snapshot_comes_back_bit_for_bit(
    store: Store, model: dict[str, np.ndarray], optimizer: dict[str, np.ndarray], score: float | None, loss: float
) -> None:
    saved = snapshot(7, score, model=model, optimizer=optimizer, history=[{"step": 7, "loss": loss}], position={"sums": [loss]})
    checkpoints(store).save(saved)
    loaded = checkpoints(store).load(7)
    for before, after in ((saved.model, loaded.model), (saved.optimizer, loaded.optimizer)):
        assert set(before) == set(after)
        for name, array in before.items():
            assert (after[name].dtype, after[name].shape) == (array.dtype, array.shape)
            assert after[name].tobytes() == array.tobytes()
    assert (loaded.step, loaded.epoch, loaded.score) == (7, 1, score)
    assert (loaded.history, loaded.position) == (saved.history, saved.position)


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.complex64])
def test_variables_of_types_that_numpy_lacks_come_back_too(store: Store, kind: Any) -> None:
    array = (np.arange(-8, 8, dtype=np.float32) / 3).astype(kind)
    checkpoints(store).save(snapshot(1, model={"a": array}))
    loaded = checkpoints(store).load(1).model["a"]
    assert loaded.dtype == array.dtype
    assert loaded.tobytes() == array.tobytes()


def test_an_array_that_is_not_contiguous_keeps_its_values(store: Store) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    views = {"transposed": array.T, "every second": array[:, ::2], "backwards": array[::-1]}
    checkpoints(store).save(snapshot(1, model=views))
    loaded = checkpoints(store).load(1).model
    for name, view in views.items():
        np.testing.assert_array_equal(loaded[name], view)


def test_without_checkpoints_there_is_nothing_to_load(store: Store) -> None:
    assert checkpoints(store).load_newest(never) is None
    assert checkpoints(store).best_kept() is None
    with pytest.raises(NotFound):
        checkpoints(store).load(3)


def test_the_newest_is_the_one_of_the_highest_step(store: Store) -> None:
    for step in (9, 10, 100):
        checkpoints(store).save(snapshot(step))
    newest = checkpoints(store).load_newest(never)
    assert newest is not None
    assert newest.step == 100


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_noticed_and_the_one_before_is_loaded(store: Store, name: str) -> None:
    for step in (10, 20, 30):
        checkpoints(store).save(snapshot(step))
    for step in (20, 30):
        flip(store, step, name)
    with pytest.raises(Damaged, match=name):
        checkpoints(store).load(30)
    seen: list[tuple[int, str]] = []
    newest = checkpoints(store).load_newest(lambda step, why: seen.append((step, why)))
    assert newest is not None
    assert newest.step == 10
    assert [step for step, _ in seen] == [30, 20]
    assert all(name in why for _, why in seen)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_gives_another_snapshot(store: Store, name: str, place: float, bit: int) -> None:
    saved = snapshot(10, 0.25)
    checkpoints(store).save(saved)
    key = path_of(store, 10) + name
    data = bytearray(store.read(key))
    data[int(place * len(data))] ^= 1 << bit
    store.write(key, bytes(data))
    try:
        loaded = checkpoints(store).load(10)
    except Damaged:
        return
    assert name == MANIFEST
    assert (loaded.epoch, loaded.score, loaded.history, loaded.position) == (1, 0.25, saved.history, saved.position)


@pytest.mark.parametrize("name", FILES[:3])
@pytest.mark.parametrize("how", ["cut off", "missing", "of another step"])
def test_a_file_that_is_not_the_one_that_was_written_is_noticed(store: Store, name: str, how: str) -> None:
    for step in (10, 20):
        checkpoints(store).save(snapshot(step))
    key = path_of(store, 20) + name
    if how == "cut off":
        store.write(key, store.read(key)[:-1])
    elif how == "missing":
        store.delete(key)
    else:
        store.write(key, store.read(path_of(store, 10) + name))
    seen: list[int] = []
    newest = checkpoints(store).load_newest(lambda step, why: seen.append(step))
    assert newest is not None
    assert (newest.step, seen) == (10, [20])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 1}', b'{"format": 2, "files": {}, "step": 20}', b"\xff\xfe"])
def test_a_manifest_that_is_none_is_noticed(store: Store, content: bytes) -> None:
    for step in (10, 20):
        checkpoints(store).save(snapshot(step, 1.0))
    store.write(path_of(store, 20) + MANIFEST, content)
    seen: list[int] = []
    newest = checkpoints(store).load_newest(lambda step, why: seen.append(step))
    assert newest is not None
    assert (newest.step, seen) == (10, [20])


@pytest.mark.parametrize(
    "change",
    [
        {"files": {}},
        {"files": {"model.safetensors": {}}},
        {"epoch": 5},
        {"score": 0.5},
        {"position": {"seconds": 1}},
        {"sha256": None},
    ],
)
def test_a_manifest_that_was_changed_is_noticed(store: Store, change: dict[str, Any]) -> None:
    checkpoints(store).save(snapshot(10))
    key = path_of(store, 10) + MANIFEST
    store.write(key, to_bytes({**from_bytes(store.read(key), key), **change}))
    with pytest.raises(Damaged, match=key):
        checkpoints(store).load(10)


def test_without_its_manifest_a_checkpoint_is_none(store: Store) -> None:
    for step in (10, 20):
        checkpoints(store).save(snapshot(step))
    store.delete(path_of(store, 20) + MANIFEST)
    seen: list[int] = []
    newest = checkpoints(store).load_newest(lambda step, why: seen.append(step))
    assert newest is not None
    assert (newest.step, seen) == (10, [20])


def test_a_store_that_cannot_be_read_is_not_taken_for_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints(store).save(snapshot(10))

    def refuse(key: str) -> bytes:
        raise StoreError("no permission")

    monkeypatch.setattr(store, "read", refuse)
    with pytest.raises(StoreError, match="no permission"):
        checkpoints(store).load_newest(never)


def test_the_manifest_is_written_last_and_a_fence_leaves_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fence() -> None:
        written = {info.key.rsplit("/", 1)[1] for info in store.list(path_of(store, 20))}
        assert written == set(FILES) - {MANIFEST}
        raise LeaseLost("another driver")

    checkpoints(store).save(snapshot(10))
    with pytest.raises(LeaseLost):
        checkpoints(store, fence=fence).save(snapshot(20))
    newest = checkpoints(store).load_newest(never)
    assert newest is not None
    assert newest.step == 10


def test_saving_a_step_again_takes_nothing_away_before_it_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = checkpoints(store)
    made.save(snapshot(10))
    write = store.write_stream

    def crash(key: str, pieces: Any, size: int) -> str:
        if key.endswith("optimizer.safetensors"):
            raise StoreError("crashed")
        return write(key, pieces, size)

    monkeypatch.setattr(store, "write_stream", crash)
    with pytest.raises(StoreError, match="crashed"):
        made.save(snapshot(10, model={"a": np.ones(2)}))
    monkeypatch.undo()
    kept = checkpoints(store).load_newest(never)
    assert kept is not None and "a" not in kept.model
    made.save(snapshot(10, model={"a": np.ones(2)}))
    kept = checkpoints(store).load_newest(never)
    assert kept is not None and "a" in kept.model
    assert steps_there(store) == [10]


def test_going_on_drops_later_checkpoints_and_what_a_crash_left(store: Store) -> None:
    for step in (10, 20, 30, 40):
        checkpoints(store).save(snapshot(step))
    store.delete(path_of(store, 10) + MANIFEST)
    store.write(f"{PATHS.checkpoints}nonsense/file", b"")
    flip(store, 20, MANIFEST)
    checkpoints(store).adopt(30)
    assert steps_there(store) == [30]


def test_going_on_from_the_beginning_drops_all(store: Store) -> None:
    for step in (10, 20):
        checkpoints(store).save(snapshot(step))
    checkpoints(store).adopt(0)
    assert list(store.list(PATHS.checkpoints)) == []


SCORES = st.none() | st.integers(0, 4).map(float)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    scores=st.lists(SCORES, min_size=1, max_size=9),
    keep_last=st.integers(1, 4),
    keep_best=st.integers(0, 3),
    adopt_at=st.none() | st.integers(0, 8),
)
def test_the_last_and_the_best_are_kept(
    store: Store, scores: list[float | None], keep_last: int, keep_best: int, adopt_at: int | None
) -> None:
    store.delete_prefix(PATHS.root)
    policy = CheckpointPolicy(every_steps=1, keep_last=keep_last, keep_best=keep_best)
    made, kept = checkpoints(store, policy), dict[int, float | None]()
    for step, score in enumerate(scores, start=1):
        if adopt_at == step:
            # A new attempt goes on: what it knows it learns from the store.
            made = checkpoints(store, policy)
            made.adopt(step - 1)
        made.save(snapshot(step, score))
        kept[step] = score
        by_score = sorted((s, k) for k, s in kept.items() if s is not None)
        wanted = {*sorted(kept)[-keep_last:], *(k for _, k in by_score[:keep_best])}
        kept = {k: s for k, s in kept.items() if k in wanted}
        assert steps_there(store) == sorted(kept)
        best = min(((s, k) for k, s in kept.items() if s is not None), default=(None, None))[1]
        assert made.best_kept() == best
    if keep_best:
        overall = min(((s, k) for k, s in enumerate(scores, start=1) if s is not None), default=(None, None))[1]
        assert made.best_kept() == overall


def test_a_half_deleted_checkpoint_is_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = checkpoints(store, CheckpointPolicy(every_steps=1, keep_last=1, keep_best=0))
    made.save(snapshot(10))

    def crash(prefix: str) -> int:
        raise StoreError("crashed")

    monkeypatch.setattr(store, "delete_prefix", crash)
    with pytest.raises(StoreError, match="crashed"):
        made.save(snapshot(20))
    monkeypatch.undo()
    assert {info.key.rsplit("/", 1)[1] for info in store.list(path_of(store, 10))} == set(FILES) - {MANIFEST}
    newest = checkpoints(store).load_newest(never)
    assert newest is not None
    assert newest.step == 20


class Gate:
    """A fence that holds each save until it is opened."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Semaphore(0), threading.Event()

    def __call__(self) -> None:
        self.entered.release()
        assert self.open.wait(30)


def submitted_in_thread(writer: CheckpointWriter, step: int) -> threading.Thread:
    thread = threading.Thread(target=writer.submit, args=(lambda: snapshot(step),), daemon=True)
    thread.start()
    return thread


def test_a_writer_saves_all_in_order_and_tells(store: Store) -> None:
    saved: list[tuple[int, float]] = []
    writer = CheckpointWriter(checkpoints(store), lambda done, seconds: saved.append((done.step, seconds)))
    for step in (1, 2, 3, 4):
        writer.submit(lambda step=step: snapshot(step))
    writer.close(30)
    assert [step for step, _ in saved] == [1, 2, 3, 4]
    assert all(seconds >= 0 for _, seconds in saved)
    assert steps_there(store) == [1, 2, 3, 4]


def test_a_writer_takes_no_snapshot_before_the_one_before_is_written_and_let_go_of(store: Store) -> None:
    gate, alive = Gate(), list[Any]()

    def taken(step: int) -> Snapshot:
        assert all(each() is None for each in alive)
        made = snapshot(step)
        alive.append(weakref.ref(made.model["00000 dense/kernel"]))
        return made

    writer = CheckpointWriter(checkpoints(store, fence=gate), lambda *_: None)
    writer.submit(lambda: taken(1))
    assert gate.entered.acquire(timeout=30)
    second = threading.Thread(target=writer.submit, args=(lambda: taken(2),), daemon=True)
    second.start()
    second.join(0.3)
    assert second.is_alive() and len(alive) == 1
    gate.open.set()
    second.join(30)
    assert not second.is_alive() and len(alive) == 2
    writer.close(30)
    assert steps_there(store) == [1, 2] and all(each() is None for each in alive)


def test_a_snapshot_that_cannot_be_taken_is_the_callers_error_and_the_next_one_is_saved(store: Store) -> None:
    writer = CheckpointWriter(checkpoints(store), lambda *_: None)
    with pytest.raises(ZeroDivisionError):
        writer.submit(lambda: snapshot(1 // 0))
    writer.submit(lambda: snapshot(2))
    writer.close(30)
    assert steps_there(store) == [2]


def fails_once_asked(error: Exception) -> Callable[[], None]:
    def fence() -> None:
        raise error

    return fence


@pytest.mark.parametrize("error", [LeaseLost("another driver"), StoreError("full"), ZeroDivisionError()])
def test_an_error_of_a_save_is_raised_at_the_next_call(store: Store, error: Exception) -> None:
    writer = CheckpointWriter(checkpoints(store, fence=fails_once_asked(error)), lambda *_: None)
    writer.submit(lambda: snapshot(1))
    end = time.monotonic() + 30
    with pytest.raises(type(error)):
        while time.monotonic() < end:
            writer.submit(lambda: snapshot(2))
    with pytest.raises(type(error)):
        writer.close(5)


def test_a_save_that_does_not_end_is_given_up(store: Store) -> None:
    gate = Gate()
    writer = CheckpointWriter(checkpoints(store, fence=gate), lambda *_: None)
    writer.submit(lambda: snapshot(1))
    assert gate.entered.acquire(timeout=30)
    with pytest.raises(InfrastructureFailure, match="not written within 0 s"):
        writer.close(0.2)
    gate.open.set()


def test_a_close_beside_one_that_waits_keeps_its_limit(store: Store) -> None:
    gate = Gate()
    writer = CheckpointWriter(checkpoints(store, fence=gate), lambda *_: None)
    writer.submit(lambda: snapshot(1))
    assert gate.entered.acquire(timeout=30)
    closing: list[BaseException] = []

    def close() -> None:
        try:
            writer.close(0.2)
        except InfrastructureFailure as error:
            closing.append(error)

    thread = threading.Thread(target=close, daemon=True)
    thread.start()
    thread.join(10)
    gate.open.set()
    assert len(closing) == 1
    thread.join(10)


JSON = st.recursive(
    st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=6,
)


@settings(max_examples=50)
@given(JSON)
def test_jsonable_values_do_not_change_again(value: Any) -> None:
    assert jsonable(jsonable(value)) == jsonable(value)
