"""Where the drivers of a group's runs meet: their runs train together once each has come or is not coming."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

from jobs.sweeps.trial_run import TrialRun
from jobs.vectorized.member_attempt import Seat
from jobs.worker.config import WorkerConfig
from jobs.worker.process import limit_threads
from jobs.worker_groups.base import Attempt
from jobs.worker_groups.in_process import InProcess, InProcessAttempt
from service.settings import Settings


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
