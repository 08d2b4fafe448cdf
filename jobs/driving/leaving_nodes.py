"""What a driver does in an attempt whose nodes are taken away: the workers save and stop, and the run goes on elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass

from jobs.driving.outcome import Outcome
from jobs.driving.retries import NODE_TAKEN
from jobs.driving.stops import Stops
from jobs.worker_groups.base import Leaving
from service.errors import StoreError
from service.records.cancel_requests import NODE
from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument, RunState


@dataclass
class LeavingNodes:
    """Of one attempt. `leaving` tells which nodes are taken away; `stops` is told of the driver's own, as by SIGTERM."""

    record: RunRecord
    leaving: Callable[[], Leaving]
    stops: Stops
    noticed: bool = False
    """Whether a node of a worker is taken away."""
    _nodes: frozenset[str] = frozenset()
    _asked: bool = False

    def note(self, progress: ProgressDocument) -> None:
        """Take up on which nodes the attempt's workers are."""
        self._nodes = frozenset(worker.node for worker in progress.workers if worker.node is not None)

    def look(self) -> None:
        """Ask the workers to save and stop, through the store, when the node of one is taken away."""
        if self.stops.wanted.is_set():
            return
        leaving = self.leaving()
        if leaving.driver:
            self.stops.terminate()
        self.noticed = self.noticed or not self._nodes.isdisjoint(leaving.nodes)
        if self.noticed and not self._asked:
            try:
                self.record.request_cancel(NODE)
                self._asked = True
            except StoreError:
                # At the next look; what the workers could not save meanwhile is lost with the node.
                return

    def outcome(self, outcome: Outcome) -> Outcome:
        """The attempt's outcome with this in mind; the workers of the next one are not asked to stop."""
        if not self.noticed:
            return outcome
        self.record.cancel.withdraw(NODE)
        if outcome.state == RunState.SUCCEEDED or (outcome.error is not None and not outcome.retryable):
            return outcome
        return Outcome.displaced(NODE_TAKEN)


def said_of(before: int | None, saved: int | None) -> str:
    """What an event says of an attempt that ended so; `before` and `saved` are the newest checkpoints' steps at its begin and end."""
    if saved is not None and saved != before:
        return f"a node is being taken away: saved at step {saved}"
    newest = "there is no checkpoint" if saved is None else f"the newest checkpoint is of step {saved}"
    return f"a node was taken away before anything was saved: {newest}"
