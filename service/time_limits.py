"""Work that a server outside can draw out by a byte now and then, ended by a limit for all of it."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TooSlow(TimeoutError):
    """It took longer in all than it may."""


def within(seconds: float, work: Callable[[threading.Event], T], what: str) -> T:
    """What `work` gives, done in a thread; raise TooSlow where that takes longer, and what `work` raises.

    A socket's time limit is for each piece that arrives: a server that drips its headers or its body never reaches it. The event that
    `work` is given is set when the caller no longer waits; where it waits for a byte it ends by its socket's limit, or with this process.
    """
    over = threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(over))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name=what)
    thread.start()
    try:
        deadline = time.monotonic() + seconds
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(min(1.0, max(0.0, deadline - time.monotonic())))
    finally:
        over.set()
    if errors:
        raise errors[0]
    if not results:
        raise TooSlow(f"the {what} has not come whole within {seconds:g} s")
    return results[0]
