"""When an elastic run takes more workers: at a checkpoint, once there was room for them for long enough."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from jobs.driving.outcome import Outcome
from jobs.driving.retries import MORE_ROOM
from service.errors import StoreError
from service.records.cancel_requests import NODE
from service.records.run_record import RunRecord
from service.records.schemas import RunState

STANDS_SECONDS = 300.0
"""For room to have stood since the last change of size (assumed: a new start costs a tenth of it; nodes that come come together)."""
LOOKS = 30
"""At the room meanwhile (derived: one each 10 s)."""


@dataclass(kw_only=True)
class Growth:
    """Of one attempt of `count` workers, of `most` that the run may have. `room` tells how many there could be now."""

    record: RunRecord
    room: Callable[[], int]
    count: int
    most: int
    stands: float = STANDS_SECONDS
    wanted: int | None = None
    """How many workers the next attempt is to have; the workers are asked to save and stop for it."""
    _since: float | None = None
    _saved: int | None = None
    _next: float = 0.0

    def look(self) -> None:
        """Ask the workers to stop at the first checkpoint at which there was room for more of them for so long."""
        now = time.monotonic()
        if self.count >= self.most or self.wanted is not None or now < self._next:
            return
        self._next = now + self.stands / LOOKS
        room = self.room()
        if room <= self.count:
            self._since = self._saved = None
            return
        if self._since is None:
            self._since = now
        if now - self._since < self.stands:
            return
        try:
            found = self.record.checkpoints()
            newest = found[-1].step if found else 0
            if self._saved is None or newest <= self._saved:
                self._saved = newest if self._saved is None else self._saved
                return
            self.record.request_cancel(NODE)
            self.wanted = room
        except StoreError:
            # At the next look.
            return

    def outcome(self, outcome: Outcome) -> Outcome:
        """The attempt's outcome with this in mind; the workers of the next one are not asked to stop."""
        if self.wanted is None:
            return outcome
        self.record.cancel.withdraw(NODE)
        return Outcome.displaced(MORE_ROOM) if outcome.state == RunState.CANCELLED else outcome
