"""What the documents of a run hold."""

from enum import StrEnum


class RunState(StrEnum):
    """How a run or a sweep stands.

        queued ──> starting ──> running ──> succeeded | failed | cancelled
                      │          │   ^
                      └──────────┴─> retrying

    - `queued`: submitted; no driver has written anything.
    - `starting`: a driver has the run's lease, and its first attempt waits for room or starts its workers. Each new driver begins
      here, also of a run that was lost, interrupted or, with `--resume`, had ended.
    - `running`: the workers of the newest attempt train; a sweep hands out trials.
    - `retrying`: an attempt failed for a reason that another one may not meet. It remains so until the next attempt trains. With the
      `reason` `signal` the system stopped the driver: any submission of the run continues it.
    - `succeeded`, `failed`, `cancelled`: ended. A run that nobody drives can come here from every state before.
    - `lost`, `damaged`: in no document. A reader calls a run lost that has not ended and that nobody alive drives, and damaged where
      its documents cannot be read.
    """

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    DAMAGED = "damaged"

    @property
    def is_ended(self) -> bool:
        """Whether no driver goes on with the run unless a person asks for it."""
        return self in _ENDED


_ENDED = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})
ENDED: frozenset[str] = frozenset(state for state in RunState if state.is_ended)
"""The states in which a run has ended, for a state that stands as text in a document."""
