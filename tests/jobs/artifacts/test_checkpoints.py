"""Checkpoints: what is saved is loaded bit for bit, and what the policy does not keep is deleted."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support.saved_checkpoints import FILES, PATHS, checkpoints, flip, never, path_of, snapshot, steps_there

from jobs.artifacts.checkpoints import jsonable
from service.errors import LeaseLost, NotFound, StoreError
from service.records.checkpoint_index import MANIFEST
from service.specs.parts import CheckpointPolicy
from service.storage.base import Store

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


def test_the_manifest_is_written_last_and_a_fence_leaves_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fence() -> None:
        written = {info.key.rsplit("/", 1)[1] for info in store.objects(path_of(store, 20))}
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


def test_resuming_drops_later_checkpoints_and_what_a_crash_left(store: Store) -> None:
    for step in (10, 20, 30, 40):
        checkpoints(store).save(snapshot(step))
    store.delete(path_of(store, 10) + MANIFEST)
    store.write(f"{PATHS.checkpoints}nonsense/file", b"")
    flip(store, 20, MANIFEST)
    checkpoints(store).adopt(30)
    assert steps_there(store) == [30]


def test_resuming_from_the_beginning_drops_all(store: Store) -> None:
    for step in (10, 20):
        checkpoints(store).save(snapshot(step))
    checkpoints(store).adopt(0)
    assert list(store.objects(PATHS.checkpoints)) == []


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
            # A new attempt resumes: what it knows it learns from the store.
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


JSON = st.recursive(
    st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=6,
)


@settings(max_examples=50)
@given(JSON)
def test_jsonable_values_do_not_change_again(value: Any) -> None:
    assert jsonable(jsonable(value)) == jsonable(value)
