"""Keeps a run's driver alive: one that was killed is started again, as often as the run may be retried."""

import contextlib
import threading
import time
from collections.abc import Callable

from service.cluster.base import Cluster, Handle, Job
from service.errors import EXIT_CODES, Cancelled, Conflict, InfrastructureFailure, LeaseLost, StoreError, UnknownName
from service.records.run_record import RunRecord, rows_to_bytes
from service.records.schemas import StateDocument
from service.records.standing import cancel_without_driver, fail_without_driver, start_after_stop

PAUSE_SECONDS = 1.0
"""Between a driver's death and the next one's start, for its workers to notice (assumed)."""
MOST_LOGS = 1000
"""Drivers of one attempt whose words are kept (assumed: more than die in one)."""
STOP_SECONDS = 0.9
STORE_SECONDS = 0.4
"""For the driver to end at once, and for writing that it did (derived: both take less than 2 s, on a busy machine too)."""


class Supervisor:
    """Starts a run's driver and starts it again when it was killed or died without a word.

    `job_of(resume)` makes the driver's job. `earlier_end` is when the run ended before this submission, if it did.
    `handle` is of a job that was started before; without it the first one is started here. `leaves_interrupted`: a driver that the
    system stopped is not started again here, for this place is about to be gone.
    """

    def __init__(
        self,
        record: RunRecord,
        cluster: Cluster,
        job_of: Callable[[bool], Job],
        retries: int,
        resume: bool = False,
        earlier_end: float | None = None,
        handle: Handle | None = None,
        leaves_interrupted: bool = False,
    ) -> None:
        self._record = record
        self._kept = cluster.keeps_drivers
        self._cluster = cluster
        self._job_of = job_of
        self._retries = retries
        self._resume = resume
        self._earlier_end = earlier_end
        self._leaves_interrupted = leaves_interrupted
        self._deaths = 0
        self._saved = 0
        self._interrupted = False
        self._next_start: float | None = None
        self._exit_code: int | None = None
        self.last_output = ""
        """What a driver that has ended printed."""
        self.handle: Handle = handle or cluster.start(cluster.request(job_of(resume)))
        """The job of the newest driver."""

    def poll(self) -> int | None:
        """The exit code once the last driver has ended, else None; starts the next driver when it is time."""
        if self._exit_code is not None:
            return self._exit_code
        if self._next_start is not None:
            if self._interrupted:
                self._exit_code = InfrastructureFailure.exit_code
            elif time.monotonic() >= self._next_start:
                self._restart()
            return self._exit_code
        code = self.handle.poll()
        if code is None:
            return None
        self.keep_output()
        if self._kept:
            # The cluster has tried again for as long as it may.
            self._exit_code = code if code in EXIT_CODES else InfrastructureFailure.exit_code
            return self._exit_code
        interrupted = code == InfrastructureFailure.exit_code and self._was_interrupted()
        died = code not in EXIT_CODES or interrupted
        if died and (self._interrupted or (interrupted and self._leaves_interrupted)):
            # The next driver is started by the next submission, or by what supervises this process.
            self._exit_code = InfrastructureFailure.exit_code
        else:
            self._exit_code = self._after_death(code) if died else code
        return self._exit_code

    def stop(self) -> None:
        """End the driver at once and write that the run is cancelled; where the store does not answer, another process writes it later."""
        if self._exit_code is None:
            within(STOP_SECONDS, self.handle.stop)
            self._exit_code = Cancelled.exit_code
            if not within(STORE_SECONDS, self._note_stop):
                start_after_stop(self._record, self.handle.pid)

    def _note_stop(self) -> None:
        self.keep_output()
        with contextlib.suppress(StoreError):
            cancel_without_driver(self._record)

    def interrupt(self) -> bool:
        """Let the driver save because the system stops this process; return False where the driver runs on without this process."""
        self._interrupted = True
        return self._next_start is not None or self._exit_code is not None or self.handle.terminate()

    def _was_interrupted(self) -> bool:
        """Whether the system stopped the driver, which ended in good order and left the rest of the run to a next one."""
        try:
            return self._record.state().was_interrupted
        except StoreError:
            return False

    def _restart(self) -> None:
        self._next_start = None
        if self._ended_as_cancelled():
            self._exit_code = Cancelled.exit_code
            return
        job = self._job_of(self._resume and not self._was_resumed())
        self.handle = self._cluster.start(self._cluster.request(job))

    def _was_resumed(self) -> bool:
        """Whether a driver got so far as to replace the state in which the run ended before."""
        try:
            state = self._record.state()
        except StoreError:
            return True
        return not state.is_ended or state.finished != self._earlier_end

    def _after_death(self, code: int) -> int | None:
        """Decide what follows a driver that did not end on purpose: an exit code, or None and another start."""
        self._count_death()
        # Processes that it started would share the processors with the next driver.
        self.handle.stop()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with the unexpected exit code {code}"
        how = "was stopped by the system" if code == InfrastructureFailure.exit_code else how
        try:
            state = self._record.state()
            if state.is_ended and state.finished != self._earlier_end:
                return InfrastructureFailure.exit_code if state.exit_code is None else state.exit_code
            if self._ended_as_cancelled():
                return Cancelled.exit_code
            # The driver counts the attempts: one start more than there are retries lets it write how the run ended.
            if self._deaths > self._retries + 1:
                return self._give_up(how)
            self._note(state, f"the driver {how}; another one is started")
        except StoreError:
            if self._deaths > self._retries + 1:
                return StoreError.exit_code
        self._next_start = time.monotonic() + PAUSE_SECONDS
        return None

    def _count_death(self) -> None:
        """Deaths count that have no new checkpoint between them."""
        with contextlib.suppress(StoreError):
            found = self._record.checkpoints()
            if found and found[-1].step > self._saved:
                self._deaths, self._saved = 0, found[-1].step
        self._deaths += 1

    def _ended_as_cancelled(self) -> bool:
        """End the run if a person cancelled it while it had no driver."""
        try:
            return self._record.person_cancelled() and cancel_without_driver(self._record)
        except StoreError:
            return False

    def _give_up(self, how: str) -> int:
        said = self.last_output.strip().splitlines()
        message = f"The driver {how}, {self._deaths} times in all; its last words: {said[-1][:300] if said else 'none'}."
        failure = InfrastructureFailure(message)
        fail_without_driver(self._record, failure)
        return failure.exit_code

    def _note(self, state: StateDocument, message: str) -> None:
        attempt = state.attempt or 0
        row = {"time": time.time(), "attempt": attempt, "event": "driver lost", "message": message}
        key = self._record.paths.events(self._record.label(attempt), f"supervisor-{time.time_ns()}")
        self._record.store.write(key, rows_to_bytes([row]))

    def keep_output(self) -> None:
        """Move what the driver printed to the store; keep it on this machine where the store refuses."""
        self.last_output = self.handle.output()
        if not self.last_output:
            return
        with contextlib.suppress(StoreError):
            try:
                # Of a run that was deleted meanwhile nothing is written any more: no list would show it, and no prune delete it.
                self._record.submission()
                self._record.check_claim()
                attempt = self._record.state().attempt or 0
                self._add_to_log(self._record.label(attempt), self.last_output.encode())
            except (UnknownName, LeaseLost):
                pass
            self.handle.forget()

    def _add_to_log(self, label: str, said: bytes) -> None:
        """Write a part after those that are there: an earlier driver's, or another process's that continued the run."""
        store, paths = self._record.store, self._record.paths
        for part in range(MOST_LOGS):
            with contextlib.suppress(Conflict):
                store.write(paths.driver_log(label, part), said, if_absent=True)
                return


def within(seconds: float, action: Callable[[], object]) -> bool:
    """Do something in a thread; return whether it was done in time. Raise nothing: a thread that comes too late has no caller."""
    done = threading.Event()

    def act() -> None:
        with contextlib.suppress(Exception):
            action()
        done.set()

    threading.Thread(target=act, name="within", daemon=True).start()
    return done.wait(seconds)
