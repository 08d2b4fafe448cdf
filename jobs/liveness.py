"""A worker says that it makes progress, and a process beside it ends the attempt when it stalls for too long.

`tick` after each call that did something; `longer` before one that may take long by itself, such as the building of a graph.
"""

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from service.storage.json_documents import Document
from service.user_folder import python

TICK, LONGER = b".", b"+"
DUMP_SIGNAL = signal.SIGUSR2
"""Makes a watched process print the stack of each of its threads: in C, without Python's lock, which TensorFlow may hold."""

_pipe: int | None = None
_last = time.monotonic()


def tick() -> None:
    """Something was done: a step, a part of an evaluation, a wait whose end somebody else watches."""
    global _last
    _last = time.monotonic()
    _say(TICK)


def longer() -> None:
    """What begins now may take long until the next tick."""
    _say(LONGER)


def idle_seconds() -> float:
    """Since the last tick."""
    return time.monotonic() - _last


def _say(word: bytes) -> None:
    if _pipe is not None:
        # Full, or with nobody at the other end: the training itself continues.
        with contextlib.suppress(OSError):
            os.write(_pipe, word)


@contextlib.contextmanager
def watched_for_stalls(order: Document) -> Iterator[None]:
    """Within it jobs.worker.stall_watch ends this process when it stalls for longer than `order["limit"]` seconds."""
    global _pipe
    log = open(order["log"], "ab", buffering=0)  # noqa: SIM115  # for as long as a signal may come
    faulthandler.register(DUMP_SIGNAL, file=log, all_threads=True)
    watch = subprocess.Popen(
        python("jobs.worker.stall_watch"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.PIPE,
    )
    assert watch.stdin
    watch.stdin.write(json.dumps({**order, "pid": os.getpid()}).encode() + b"\n")
    watch.stdin.flush()
    os.set_blocking(watch.stdin.fileno(), False)
    _pipe = watch.stdin.fileno()
    tick()
    longer()
    try:
        yield
    finally:
        _pipe = None
        faulthandler.unregister(DUMP_SIGNAL)
        log.close()
        watch.stdin.close()
        threading.Thread(target=watch.wait, daemon=True).start()
