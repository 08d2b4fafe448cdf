"""Several trials of a sweep in one process of Ray Tune: each run has a driver of its own, and all train together."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from jobs.sweeps.trial_run import EVALUATION, LOOK_SECONDS, OVER, TrialRun
from jobs.vectorized.member_attempt import Seat
from jobs.worker.process import WorkerConfig, limit_threads
from jobs.worker_groups.base import Attempt, InProcess, InProcessAttempt
from service.datasets import find_dataset, is_streamed
from service.errors import DelaylineError
from service.records.cancel_requests import SWEEP
from service.settings import Settings


class CompanyTrial:
    """Drives the runs in threads, those that stand at the same step together, one such company after another."""

    def __init__(self, runs: Sequence[TrialRun]) -> None:
        self._runs = list(runs)
        self._errors: list[DelaylineError] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._drive, name=f"{runs[0].record.run_id} and others", daemon=True)
        self._thread.start()

    def reports(self) -> Iterator[dict[str, Any]]:
        """What Tune is told once all are over, `done`; raise InfrastructureFailure for a lost lease."""
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
        for runs in self._companies():
            due = [] if self._stopped.is_set() else [run for run in runs if run.is_due]
            if len(due) > 1:
                self._together(due)
            elif due:
                self._note(due[0].drive(lambda *_: InProcess()))

    def _companies(self) -> list[list[TrialRun]]:
        """The runs by the step of their newest checkpoint; each for itself where the data would be streamed."""
        spec = self._runs[0].record.spec()
        manifest = find_dataset(self._runs[0].record.store, spec.dataset, spec.dataset_params)
        if is_streamed(spec, manifest, 1):
            return [[run] for run in self._runs]
        by_step: dict[int, list[TrialRun]] = {}
        for run in self._runs:
            checkpoints = run.record.checkpoints()
            by_step.setdefault(int(checkpoints[-1]["step"]) if checkpoints else 0, []).append(run)
        return [by_step[step] for step in sorted(by_step)]

    def _together(self, runs: list[TrialRun]) -> None:
        table = Table(len(runs))

        def drive(run: TrialRun) -> None:
            place = PlaceAtTable(table)
            try:
                self._note(run.drive(lambda *_: place))
            finally:
                place.leave()

        drivers = [threading.Thread(target=drive, args=(run,), name=run.record.run_id, daemon=True) for run in runs]
        for driver in drivers:
            driver.start()
        table.train(runs[0])
        for driver in drivers:
            driver.join()

    def _note(self, error: DelaylineError | None) -> None:
        if error is not None:
            self._errors.append(error)


class Table:
    """Where the drivers of a company's runs meet: they train together once each of them has a seat or is not coming."""

    def __init__(self, places: int) -> None:
        self._seats: list[Seat] = []
        self._awaited = places
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._turn = threading.Lock()

    def sit(self, config: WorkerConfig) -> Seat:
        """A seat for a run's attempt."""
        with self._changed:
            seat = Seat(config)
            self._seats.append(seat)
            self._arrived()
            return seat

    def stay_away(self) -> None:
        """A driver has ended without taking a seat."""
        with self._changed:
            self._arrived()

    def train(self, run: TrialRun) -> None:
        """Wait for all, and train those that came to their ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._awaited == 0)
        try:
            if self._seats:
                # Drivers arrive in any order.
                _train(sorted(self._seats, key=lambda seat: seat.config.run_id), run.settings)
        except BaseException as error:
            for seat in self._seats:
                if not seat.wait(0):
                    seat.end(error)
        finally:
            self._over.set()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Within it, after the company's end, this process is one attempt's alone."""
        self._over.wait()
        with self._turn:
            yield

    def _arrived(self) -> None:
        self._awaited -= 1
        self._changed.notify_all()


def _train(seats: Sequence[Seat], settings: Settings) -> None:
    limit_threads(seats[0].config.cpus)
    import jobs.worker.lean_keras  # noqa: F401
    from jobs.vectorized.group import train_together

    train_together(seats, settings)


class PlaceAtTable(InProcess):
    """Where a driver's worker comes from: the first attempt is a seat at the table, those after it train apart behind the others."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._table = table
        self._seat: Seat | None = None

    def start(self, config: WorkerConfig) -> Attempt:
        """Take the seat, or train in a thread later."""
        if self._seat is not None:
            return _AttemptApart(config, self._table)
        self._seat = self._table.sit(config)
        return self._seat

    def leave(self) -> None:
        """The driver has ended."""
        if self._seat is None:
            self._table.stay_away()
        else:
            self._seat.given_up = True


class _AttemptApart(InProcessAttempt):
    """The one worker's attempt, when it is its turn."""

    def __init__(self, config: WorkerConfig, table: Table) -> None:
        self._table = table
        super().__init__(config, None)

    def _run(self) -> None:
        with self._table.turn():
            super()._run()
