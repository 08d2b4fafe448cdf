"""Keeps a lease fresh while its holder works; a holder that lost it ends at once."""

import os
from collections.abc import Callable

from jobs.repeating import Repeating
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
        self._beats = Repeating("heartbeat", HEARTBEAT_SECONDS, self._beat)

    def release(self) -> None:
        """Give the lease back, once no heartbeat is under way that would take it again."""
        self._beats.stop()
        self._beats.join()
        self._lease.release()

    def stop(self) -> None:
        """Beat no more; the lease goes stale."""
        self._beats.stop()

    def _beat(self) -> None:
        try:
            self._lease.renew()
        except LeaseLost as error:
            end_process(error, self._say)
        except DelaylineError as error:
            self._say(f"the heartbeat could not be written: {error}")
