"""The thread that repeats: when it calls, when it stops, what a caller can wait for."""

import threading
import time

from jobs.repeating import Repeating

SECONDS = 0.01


def test_it_calls_again_and_again_until_it_is_stopped() -> None:
    calls = threading.Semaphore(0)
    repeating = Repeating("test", SECONDS, calls.release)
    for _ in range(3):
        assert calls.acquire(timeout=20)
    repeating.stop()
    repeating.join()
    assert repeating.stopped
    while calls.acquire(blocking=False):
        pass
    time.sleep(5 * SECONDS)
    assert not calls.acquire(blocking=False)


def test_work_that_returns_true_is_the_last() -> None:
    calls: list[int] = []

    def work() -> bool:
        calls.append(0)
        return len(calls) == 2

    Repeating("test", SECONDS, work).join()
    assert len(calls) == 2


def test_the_first_call_has_a_wait_of_its_own() -> None:
    called = threading.Event()
    repeating = Repeating("test", 1000.0, called.set, first=SECONDS)
    assert called.wait(20)
    repeating.stop()
    repeating.join()


def test_one_that_is_stopped_before_its_first_call_never_calls() -> None:
    called = threading.Event()
    repeating = Repeating("test", 1000.0, called.set)
    repeating.stop()
    repeating.join()
    assert not called.is_set()


def test_whoever_joins_waits_for_the_call_that_is_under_way() -> None:
    began, goes, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        goes.wait(20)
        ended.set()

    repeating = Repeating("test", SECONDS, work)
    assert began.wait(20)
    repeating.stop()
    threading.Timer(5 * SECONDS, goes.set).start()
    repeating.join()
    assert ended.is_set()
