"""Several trials of a sweep in one process of Ray Tune: each run has a driver of its own, and all train together."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from jobs.sweeps.rendezvous import MemberGroup, Rendezvous
from jobs.sweeps.trial_run import EVALUATION, LOOK_SECONDS, OVER, TrialRun
from jobs.worker_groups.in_process import InProcess
from service.datasets import find_dataset, is_streamed
from service.errors import DelaylineError
from service.records.cancel_requests import SWEEP


class GroupTrial:
    """Drives the runs in threads, those that stand at the same step together, one such group after another."""

    def __init__(self, runs: Sequence[TrialRun]) -> None:
        self._runs = list(runs)
        self._errors: list[DelaylineError] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._drive, name=f"{runs[0].record.run_id} and others", daemon=True)
        self._thread.start()

    def reports(self) -> Iterator[dict[str, Any]]:
        """What Tune is given once all are over, `done`; raise InfrastructureFailure for a lost lease."""
        self._thread.join()
        if self._errors:
            raise self._errors[0]
        yield {EVALUATION: 1, OVER: True, "done": True}

    def stop(self) -> None:
        """Ask the runs to save and stop, and wait for them."""
        self._stopped.set()
        while self._thread.is_alive():
            for run in self._runs:
                if run.is_due and not run.record.cancel_requested():
                    run.record.request_cancel(SWEEP)
            self._thread.join(LOOK_SECONDS)

    def _drive(self) -> None:
        for runs in self._groups():
            due = [] if self._stopped.is_set() else [run for run in runs if run.is_due]
            if len(due) > 1:
                self._together(due)
            elif due:
                self._note(due[0].drive(lambda *_: InProcess()))

    def _groups(self) -> list[list[TrialRun]]:
        """The runs by the step of their newest checkpoint; each for itself where the data would be streamed."""
        spec = self._runs[0].record.spec()
        manifest = find_dataset(self._runs[0].record.store, spec.dataset, spec.dataset_params)
        if is_streamed(spec, manifest, 1):
            return [[run] for run in self._runs]
        by_step: dict[int, list[TrialRun]] = {}
        for run in self._runs:
            by_step.setdefault(run.record.step_to_resume_from(), []).append(run)
        return [by_step[step] for step in sorted(by_step)]

    def _together(self, runs: list[TrialRun]) -> None:
        rendezvous = Rendezvous(len(runs))

        def drive(run: TrialRun) -> None:
            # Around all of it: a driver that comes to no attempt must say so, for the others wait for it.
            with MemberGroup(rendezvous) as group:
                self._note(run.drive(lambda *_: nullcontext(group)))

        drivers = [threading.Thread(target=drive, args=(run,), name=run.record.run_id, daemon=True) for run in runs]
        for driver in drivers:
            driver.start()
        rendezvous.train(runs[0])
        for driver in drivers:
            driver.join()

    def _note(self, error: DelaylineError | None) -> None:
        if error is not None:
            self._errors.append(error)
