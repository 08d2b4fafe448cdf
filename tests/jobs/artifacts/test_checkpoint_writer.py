"""Checkpoints that a thread saves while the training runs."""

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.saved_checkpoints import checkpoints, snapshot, steps_there

from jobs.artifacts.checkpoints import CheckpointWriter, Snapshot
from service.errors import InfrastructureFailure, LeaseLost, StoreError
from service.storage.base import Store


class Gate:
    """A fence that holds each save until it is opened."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Semaphore(0), threading.Event()

    def __call__(self) -> None:
        self.entered.release()
        assert self.open.wait(30)


def test_a_writer_saves_all_in_order_and_reports_each(store: Store) -> None:
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


def test_a_save_that_does_not_end_fails_at_its_limit(store: Store) -> None:
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
