"""Signals that ask a driver to stop: the handlers write a byte to a pipe and no more; a thread reads it and acts.

A handler interrupts whatever its thread is doing, perhaps with a lock in its hands: it may neither take one nor wait.

A person stops by SIGINT (Ctrl-C), the system by SIGTERM (a drained node, a preempted pod, a service that ends). SIGTERM is also
what `ray job stop` sends: jobs.driving.after_stop, which outlives the driver, then asks Ray who it was.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from service.errors import Cancelled, DelaylineError, InfrastructureFailure, StoreError
from service.records.run_record import PERSON, RunRecord
from service.records.schemas import SIGNAL
from service.records.standing import start_after_stop

SAVE_SECONDS = 18.0
"""For a run that the system stops to save (derived: of the 30 s that are the shortest common grace some are the end's own)."""
SYSTEM_SECONDS = 25.0
"""After SIGTERM the process is gone by then, whatever it waits for (derived: from the same 30 s)."""
AT_ONCE_SECONDS = 0.5
"""For the end to be written once it is to end at once (derived: with the command that started this process less than 2 s)."""
SAME_SECONDS = 5.0
"""Within so long another SIGTERM is the same one, sent twice: to all processes of a service, and by a parent (assumed)."""


class Stops:
    """What signals have asked of this process so far; without `listen` nothing ever does."""

    def __init__(self) -> None:
        self.by: str | None = None
        """PERSON or SIGNAL, whoever came first; a person may still come second."""
        self.wanted = threading.Event()
        self.at_once = threading.Event()
        self.ended = threading.Event()
        """The run's end is written, as far as this process writes it."""
        self.terminate: Callable[[], None] = lambda: None
        """Does what SIGTERM would, for a node that is taken away and whose system tells this process nothing."""

    @property
    def by_system(self) -> bool:
        """Whether any submission may resume the run: the system stopped it, not a person."""
        return self.by == SIGNAL

    def wait(self, seconds: float) -> bool:
        """Sleep, but not on when a stop is wanted; return whether it is."""
        return self.wanted.wait(seconds)


class SignalWatch:
    """Turns SIGINT and SIGTERM into `stops`, and into a request in the store that the workers see.

    A second signal ends the process within two seconds, also when no store answers: `clean_up` is called, which kills what
    would stay behind, and a process is started that writes the end later. `in_job`: Ray may have been the sender. `limit`:
    so many seconds after SIGTERM the process is gone, whatever it waits for.
    """

    def __init__(
        self,
        record: RunRecord,
        say: Callable[[str], None],
        clean_up: Callable[[], None],
        in_job: bool = False,
        limit: float = SYSTEM_SECONDS,
    ) -> None:
        self.stops = Stops()
        self._record = record
        self._say = say
        self._clean_up = clean_up
        self._in_job = in_job
        self._limit = limit
        self._terminated = 0.0
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def listen(self) -> Stops:
        """Install the handlers; this must be the main thread."""
        threading.Thread(target=self._read, name="signals", daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        self.stops.terminate = lambda: self._handle(signal.SIGTERM, None)
        return self.stops

    def _handle(self, number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.write(self._writer, bytes([number]))

    def _read(self) -> None:
        while numbers := os.read(self._reader, 1):
            self._take(numbers[0])

    def _take(self, number: int) -> None:
        stops, again = self.stops, self.stops.wanted.is_set()
        if again and number == signal.SIGTERM and time.monotonic() - self._terminated < SAME_SECONDS:
            return
        if again:
            # Who presses Ctrl-C while the system's stop is under way ends the run.
            stops.by = PERSON if number == signal.SIGINT else stops.by
            if not stops.at_once.is_set():
                stops.at_once.set()
                self._later(self._end_at_once)
            return
        stops.by = PERSON if number == signal.SIGINT else SIGNAL
        stops.wanted.set()
        if number == signal.SIGTERM:
            self._terminated = time.monotonic()
            self._later(self._end_in_time)
            if self._in_job:
                start_after_stop(self._record, os.getpid(), ask_ray=True)
        self._later(self._ask)
        self._say_aside(
            "the system stops this process: the run is saved and can be resumed"
            if stops.by_system
            else "stopping at the next step; a second signal stops at once"
        )

    def _later(self, action: Callable[[], None]) -> None:
        threading.Thread(target=action, name=action.__name__, daemon=True).start()

    def _say_aside(self, message: str) -> None:
        # In a thread: a terminal that stands still, or a pipe that nobody reads, must not hold the end up.
        threading.Thread(target=self._say, args=(message,), name="say", daemon=True).start()

    def _ask(self) -> None:
        """Ask the workers, through the store, as soon as it answers."""
        while not self.stops.ended.is_set():
            try:
                self._record.request_cancel(reason=self.stops.by or PERSON)
                return
            except StoreError:
                self.stops.ended.wait(1.0)
            except DelaylineError as error:
                self._say(f"the workers could not be asked to stop: {error}")
                return

    def _end_in_time(self) -> None:
        if not self.stops.ended.wait(self._limit) and not self.stops.at_once.is_set():
            self._clean_up()
            os._exit(InfrastructureFailure.exit_code)

    def _end_at_once(self) -> None:
        by_system = self.stops.by_system
        self._say_aside(f"The run {self._record.run_id} was stopped at once; continue it with --resume.")
        self.stops.ended.wait(AT_ONCE_SECONDS)
        # First: it ends all children, and what is started next would be one of them.
        self._clean_up()
        if not by_system:
            start_after_stop(self._record, os.getpid())
        os._exit((InfrastructureFailure if by_system else Cancelled).exit_code)
