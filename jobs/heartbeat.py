"""Keeps a lease fresh while its holder works; a holder that lost it ends at once."""

import os
import threading
from collections.abc import Callable

from service.errors import DelaylineError, LeaseLost
from service.storage.records import HEARTBEAT_SECONDS, Lease


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
                self._say(str(error))
                os._exit(error.exit_code)
            except DelaylineError as error:
                self._say(f"the heartbeat could not be written: {error}")
