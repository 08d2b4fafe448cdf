"""A job's process that Kubernetes stops stays until it is killed: with its own end KubeRay would call the whole job failed."""

import signal
import time
from collections.abc import Callable

KILL_SECONDS = 900.0
"""For a process to be killed (assumed: longer than any grace period; 30 s is Kubernetes' own, clouds give up to 120 s)."""
LOOK_SECONDS = 1.0


def wait_until_killed(say: Callable[[str], None], seconds: float = KILL_SECONDS) -> None:
    """Do nothing for so long, whatever SIGTERM still comes; this must be the main thread."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(
        f"this job waits until its pod is gone, {seconds:g} s at most: ended by itself it would count as failed, and the same job in a "
        "new pod continues the run"
    )
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
