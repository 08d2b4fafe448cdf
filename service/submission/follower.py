"""Stays with a run until its end: yields its updates, keeps its driver alive, and passes on the wish to stop.

Nothing is printed here: a command shows what it gets, and a server would send it on.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from service import runs
from service.errors import (
    Cancelled,
    ClusterUnreachable,
    DelaylineError,
    InfrastructureFailure,
    StoreError,
    for_exit_code,
)
from service.records.lease import lease_is_live, lease_of
from service.records.run_record import RunRecord
from service.records.schemas import RunState
from service.runs import Update
from service.runs.endings import again_command, lost
from service.storage.base import Store
from service.submission.supervisor import Supervisor

CANCEL_SECONDS = 120.0
"""How long a cancelled run may take to save and end (assumed: more than its driver allows its workers)."""
HINDRANCE_SECONDS = 30.0
"""Between repeats of what keeps a run from starting (assumed: often enough to show that it is still so)."""
REPEAT_SECONDS = 5.0
"""Between repeats of the wish to stop: a driver that was just starting may have missed it."""
LISTEN_SECONDS = 0.1
SYSTEM_SECONDS = 27.0
"""After SIGTERM this process ends within them (derived: its driver does after 25 s, and 30 s are the shortest common grace)."""
EXIT_SECONDS = 30.0
"""How long a driver may take to disconnect from Ray after its run has ended (assumed)."""


class StoppedAtOnce(Cancelled):
    """A person wants the run stopped at once: nothing is waited for any more, the store included."""


@dataclass
class Wishes:
    """What the follower's caller wants; a signal handler or another thread sets these to the monotonic clock's time."""

    stop_since: float | None = None
    """Since when the run should save and stop."""
    terminated: float | None = None
    """Since when the system stops this process."""


@dataclass
class RunFollower:
    """Stays with one run.

    `supervisor`: of the driver that this process started; None when another process drives the run. `take_over`: starts a driver for
    a run that its own driver left; None for those who only look. `note`: takes a line for people, from any thread. `earlier_end`:
    when the run ended before this submission, if it did. `patience`: seconds for a store that does not answer.
    """

    store: Store
    run_id: str
    noun: str
    wishes: Wishes
    note: Callable[[str], None]
    supervisor: Supervisor | None = None
    earlier_end: float | None = None
    patience: float = 300.0
    take_over: Callable[[], Supervisor] | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _hindrance: str | None = None
    _told: float = 0.0
    _driver_saves: bool | None = None
    """Once the system stops this process: whether it has a driver that stops as well."""

    def updates(self) -> Generator[Update, None, None]:
        """Yield what each look at the run finds, its end last; raise the error that keeps this process from following it further."""
        record = RunRecord(self.store, self.run_id)
        threading.Thread(target=self._pass_on_wishes, name="wishes", daemon=True).start()
        try:
            for update in runs.watch(self.store, self.run_id, earlier_end=self.earlier_end, patience=self.patience):
                yield update
                if update.problem is None and update.is_ended:
                    break
                self._act(record, update)
            self._wait_for_exit()
        finally:
            self._over.set()

    def stop_at_once(self) -> Cancelled:
        """Stop this process's own driver and wait for nothing; return the error that says so."""
        self._over.set()
        if self.supervisor is None:
            return Cancelled(f"Stopped watching the {self.noun} {self.run_id}, which was asked to stop.")
        self.note("stopping the driver at once")
        self.supervisor.stop()
        return StoppedAtOnce(
            f"The {self.noun} {self.run_id} was stopped at once; continue it with: {again_command(self.run_id, self.noun)}"
        )

    def _act(self, record: RunRecord, update: Update) -> None:
        """Do what is due after a look at a run that has not ended."""
        if self.wishes.terminated is not None:
            raise self._hand_over()
        if self.wishes.stop_since is not None and time.monotonic() - self.wishes.stop_since > CANCEL_SECONDS:
            raise self.stop_at_once()
        self._look_after_driver(record)
        if self.supervisor is not None and update.state in (RunState.QUEUED, RunState.LOST):
            self._tell_hindrance(self.supervisor)
        if self.supervisor is not None or update.state != RunState.LOST:
            return
        if self.take_over is None:
            raise lost(self.run_id, self.noun)
        self.note(f"nobody drives the {self.noun} any more: a driver is started here")
        self.supervisor = self.take_over()

    def _tell_hindrance(self, supervisor: Supervisor) -> None:
        """Say what keeps the driver from starting, when it is new and now and then again."""
        said = supervisor.handle.hindrance()
        new = said != self._hindrance
        if said is not None and (new or time.monotonic() - self._told > HINDRANCE_SECONDS):
            self.note(f"{said}.")
            self._told = time.monotonic()
        self._hindrance = said

    def _pass_on_wishes(self) -> None:
        """In a thread of its own, for a store that does not answer holds up the one that looks at the run."""
        record, asked = RunRecord(self.store, self.run_id), 0.0
        while not self._over.wait(LISTEN_SECONDS):
            if self.wishes.terminated is not None:
                self._terminate()
                return
            # Again and again: a driver that was just starting may have missed it.
            if self.wishes.stop_since is None or (asked and time.monotonic() - asked < REPEAT_SECONDS):
                continue
            if not asked:
                self.note("saving a checkpoint and stopping; press Ctrl-C again to stop at once")
            asked = time.monotonic()
            with contextlib.suppress(StoreError):
                if not record.person_cancelled():
                    record.request_cancel()

    def _terminate(self) -> None:
        """Let the driver save; nothing may keep this process for longer than the system waits."""
        self._driver_saves = self.supervisor is not None and self.supervisor.interrupt()
        if not self._over.wait(SYSTEM_SECONDS):
            os._exit(InfrastructureFailure.exit_code)

    def _hand_over(self) -> InfrastructureFailure:
        """Wait for the driver that saves because the system stops it; return what there is to say then."""
        deadline = time.monotonic() + SYSTEM_SECONDS
        while self._driver_saves is None and time.monotonic() < deadline:
            time.sleep(LISTEN_SECONDS)
        while self._driver_saves and self.supervisor and self.supervisor.poll() is None and time.monotonic() < deadline:
            time.sleep(LISTEN_SECONDS)
        what = "the same command continues it" if self._driver_saves else f"the {self.noun} continues without this command"
        return InfrastructureFailure(f"The system stopped this command, which followed the {self.noun} {self.run_id}: {what}.")

    def _look_after_driver(self, record: RunRecord) -> None:
        """Start the driver again if need be; once it has ended for good, see whether the run continues without it."""
        if self.supervisor is None or (code := self.supervisor.poll()) is None:
            return
        try:
            state = record.state()
            ended = state.is_ended and (self.earlier_end is None or state.finished != self.earlier_end)
            continues = ended or lease_is_live(lease_of(record))
        except StoreError:
            continues = False
        if not continues:
            raise _error_of_driver(self.run_id, code, self.supervisor.last_output)
        self.supervisor = None

    def _wait_for_exit(self) -> None:
        deadline = time.monotonic() + EXIT_SECONDS
        # The run has ended: a cluster that cannot be reached any more changes nothing.
        with contextlib.suppress(ClusterUnreachable):
            while self.supervisor is not None and self.supervisor.poll() is None:
                if time.monotonic() > deadline:
                    self.supervisor.stop()
                time.sleep(0.05)


def _error_of_driver(run_id: str, code: int, output: str) -> DelaylineError:
    """The error of a driver that ended and wrote nothing of it into the store."""
    said = [line for line in output.splitlines() if line.strip()]
    errors = [line.partition("Error: ")[2] for line in said if "Error: " in line]
    message = (
        errors[-1]
        if errors
        else f"The driver of the run {run_id} ended with exit code {code}; it said: {' / '.join(said[-5:]) or 'nothing'}"
    )
    return for_exit_code(code or InfrastructureFailure.exit_code, message)
