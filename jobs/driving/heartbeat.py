"""Keeps a lease fresh while its holder works; a holder that lost it ends at once."""

import os
import threading
from collections.abc import Callable

from service.errors import DelaylineError, LeaseLost
from service.records.lease import HEARTBEAT_SECONDS, Lease


def end_process(error: LeaseLost, say: Callable[[str], None]) -> None:
    """End this process at once: the run is another driver's, and no thread of this one is to write to it any more."""
    say(str(error))
    os._exit(error.exit_code)


class Heartbeat:
    """Renews an acquired lease in a thread until it is released or stopped."""

    def __init__(self, lease: Lease, say: Callable[[str], None]) -> None:
        self._lease = lease
        self._say = say
        self._ended = threading.Event()
        self._beating = threading.Lock()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def release(self) -> None:
        """Give the lease back; a heartbeat that is under way would take back what this says."""
        with self._beating:
            self._ended.set()
            self._lease.release()

    def stop(self) -> None:
        """Beat no more; the lease goes stale."""
        self._ended.set()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                with self._beating:
                    if not self._ended.is_set():
                        self._lease.renew()
            except LeaseLost as error:
                end_process(error, self._say)
            except DelaylineError as error:
                self._say(f"the heartbeat could not be written: {error}")
