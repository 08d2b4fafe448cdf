"""Where the drivers of a group's runs meet: their runs train together once each has joined or declined."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

from jobs.sweeps.trial_run import TrialRun
from jobs.vectorized.member_attempt import MemberAttempt
from jobs.worker.config import WorkerConfig
from jobs.worker.process import limit_threads
from jobs.worker_groups.base import Attempt
from jobs.worker_groups.in_process import InProcess, InProcessAttempt
from service.settings import Settings


class Rendezvous:
    """For so many drivers, each with a run; the word is torchelastic's."""

    def __init__(self, drivers: int) -> None:
        self._attempts: list[MemberAttempt] = []
        self._awaited = drivers
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._turn = threading.Lock()

    def join(self, config: WorkerConfig) -> MemberAttempt:
        """Join with a run's attempt, which ends when the group has trained it."""
        with self._changed:
            attempt = MemberAttempt(config)
            self._attempts.append(attempt)
            self._count_one()
            return attempt

    def decline(self) -> None:
        """A driver has ended without joining."""
        with self._changed:
            self._count_one()

    def train(self, run: TrialRun) -> None:
        """Wait until each driver has joined or declined, and train those that joined to their ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._awaited == 0)
        try:
            if self._attempts:
                # Drivers join in any order.
                _train(sorted(self._attempts, key=lambda attempt: attempt.config.run_id), run.settings)
        except BaseException as error:
            for attempt in self._attempts:
                if not attempt.wait(0):
                    attempt.end(error)
        finally:
            self._over.set()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Within it, after the group's end, this process is one attempt's alone."""
        self._over.wait()
        with self._turn:
            yield

    def _count_one(self) -> None:
        self._awaited -= 1
        self._changed.notify_all()


def _train(attempts: Sequence[MemberAttempt], settings: Settings) -> None:
    limit_threads(attempts[0].config.cpus)
    import jobs.worker.lean_keras  # noqa: F401
    from jobs.vectorized.group import train_group

    train_group(attempts, settings)


class MemberGroup(InProcess):
    """Where a driver's worker comes from: the first attempt joins the group, those after it train apart once the group has ended."""

    def __init__(self, rendezvous: Rendezvous) -> None:
        super().__init__()
        self._rendezvous = rendezvous
        self._attempt: MemberAttempt | None = None

    def start(self, config: WorkerConfig) -> Attempt:
        """Join the group, or train in a thread after it."""
        if self._attempt is not None:
            return _AttemptApart(config, self._rendezvous)
        self._attempt = self._rendezvous.join(config)
        return self._attempt

    def __exit__(self, *_: object) -> None:
        """The driver has ended."""
        if self._attempt is None:
            self._rendezvous.decline()
        else:
            self._attempt.given_up = True


class _AttemptApart(InProcessAttempt):
    """The one worker's attempt, when it is its turn."""

    def __init__(self, config: WorkerConfig, rendezvous: Rendezvous) -> None:
        self._rendezvous = rendezvous
        super().__init__(config)

    def _run(self) -> None:
        with self._rendezvous.turn():
            super()._run()
