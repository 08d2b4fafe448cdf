"""The run of a trial in a process of Ray Tune: driven under its lease, unless it is over or its sweep was stopped."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from jobs.driving.driver import Driver
from jobs.log_lines import say
from jobs.worker_groups.base import MakeGroup
from service.errors import DelaylineError, InfrastructureFailure
from service.records.cancel_requests import SWEEP
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import RunState
from service.settings import Settings

EVALUATION = "evaluation"
"""The key of Tune's results that counts a trial's evaluations, by which schedulers go."""
STEP = "step"
"""The key of Tune's results with the step of the evaluation."""
MUTATION = "mutation"
TAKEN = "taken"
"""The keys of Tune's results with the number of the newest mutation, and the step of the checkpoint that was taken over by it."""
OVER = "over"
"""The key of Tune's results that distinguishes a trial's own end from a scheduler's, at which Tune itself says `done`."""
LOOK_SECONDS = 0.2
"""Between looks at a trial that may be stopped (assumed: short beside an epoch)."""
LEASE_PATIENCE = 120.0
"""For a lease whose holder was lost (assumed: four times the time after which it counts as such)."""


@dataclass(frozen=True)
class TrialRun:
    """A trial's run, and where it is driven from."""

    record: RunRecord
    sweep: str
    settings: Settings
    folder: str

    @property
    def is_due(self) -> bool:
        """Whether there is something to do: the run is not over, or was lost, and its sweep is not stopped."""
        state = self.record.state()
        if state.is_ended and state.state != RunState.CANCELLED and not state.was_lost:
            return False
        # Tune holds a trial or two ready: one that had not begun when the sweep was stopped does not begin.
        return not RunRecord(self.record.store, self.sweep).cancel_requested()

    def drive(self, make_group: MakeGroup, prepare: Callable[[], None] = lambda: None) -> DelaylineError | None:
        """Drive the run to its end if it is due, after `prepare` under its lease; return what kept it from being driven."""
        try:
            if self.is_due:
                lease = self._lease()
                self._drive(lease, make_group, prepare)
        except DelaylineError as error:
            return error
        return None

    def _drive(self, lease: Lease, make_group: MakeGroup, prepare: Callable[[], None]) -> None:
        self.record.guard = lease.assure
        try:
            # What the sweep asked of an earlier process; what it wants now it asks for again and again.
            self.record.cancel.withdraw(SWEEP)
            prepare()
        except DelaylineError:
            lease.release()
            raise
        # A process that lets a run pause may be about to end it until it gives the lease back.
        state = self.record.state().state
        anew = state == RunState.FAILED or (state == RunState.CANCELLED and not self._paused())
        Driver(
            record=self.record,
            spec=self.record.spec(),
            settings=self.settings,
            lease=lease,
            folder=self.folder,
            fresh_budget=anew,
            say=say,
            make_group=make_group,
            reports=False,
        ).run()

    def _paused(self) -> bool:
        """Whether it was the sweep that stopped the run, which it resumes now."""
        trials = RunRecord(self.record.store, self.sweep).trials()
        return any(trial.pauses for trial in trials if trial.id == self.record.run_id)

    def _lease(self) -> Lease:
        """The run's lease, once a process that was killed is known to be gone."""
        lease, end = Lease(self.record), time.monotonic() + LEASE_PATIENCE
        while not lease.acquire():
            if time.monotonic() > end:
                raise InfrastructureFailure(
                    f"The trial {self.record.run_id} is driven by another process; the sweep cannot resume it."
                )
            time.sleep(LOOK_SECONDS)
        return lease
