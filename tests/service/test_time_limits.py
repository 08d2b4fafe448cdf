"""Work in a thread that is given up after so long."""

import threading

import pytest

from service.time_limits import TooSlow, within


def test_what_the_work_gives_is_returned() -> None:
    assert within(30, lambda over: (over.is_set(), threading.current_thread().name), "download") == (False, "download")


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        within(30, lambda over: 1 // 0, "download")


def test_work_that_takes_too_long_is_asked_to_end_and_named() -> None:
    ended = threading.Event()

    def work(over: threading.Event) -> None:
        if over.wait(30):
            ended.set()

    with pytest.raises(TooSlow, match=r"the download has not come whole within 0\.05 s"):
        within(0.05, work, "download")
    assert ended.wait(30)


def test_without_any_time_left_nothing_is_waited_for() -> None:
    with pytest.raises(TooSlow):
        within(0.0, lambda over: over.wait(30), "download")
