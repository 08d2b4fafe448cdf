"""Stays with a run until its end: shows it, keeps its driver alive, and passes on the wish to stop."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from service import runs
from service.cli.console import figures, is_live
from service.cli.display import Display, LiveDisplay, PlainDisplay
from service.cli.sweep_display import LiveSweep, PlainSweep, parameters, several_bases
from service.errors import (
    Cancelled,
    ClusterUnreachable,
    DelaylineError,
    InfrastructureFailure,
    StoreError,
    UserFailure,
    for_exit_code,
)
from service.records.lease import lease_is_live, lease_of
from service.records.run_record import Document, RunRecord
from service.records.schemas import ENDED, RunState
from service.specs.generated import CHANCE_OF_BITS, is_bits_task
from service.storage.base import Store
from service.submission.supervisor import Supervisor
from service.words import clock

CANCEL_SECONDS = 120.0
"""How long a cancelled run may take to save and end (assumed: more than its driver allows its workers)."""
REPEAT_SECONDS = 5.0
"""Between repeats of the wish to stop: a driver that was just starting may have missed it."""
LISTEN_SECONDS = 0.1
DEAF_SECONDS = 2.0
"""After the second Ctrl-C (derived: what it starts takes less)."""
SYSTEM_SECONDS = 27.0
"""After SIGTERM this process is gone by then (derived: its driver is after 25 s, and 30 s are the shortest common grace)."""
EXIT_SECONDS = 30.0
"""How long a driver may take to leave Ray after its run has ended (assumed)."""


def make_display(run_id: str, kind: str = "train") -> Display:
    """The live display on a terminal, the plain one elsewhere; of a run, or of a sweep."""
    live, plain = (LiveSweep, PlainSweep) if kind == "sweep" else (LiveDisplay, PlainDisplay)
    return live(run_id) if is_live(sys.stderr) else plain(run_id)


class StoppedAtOnce(Cancelled):
    """A person pressed Ctrl-C twice: nothing is waited for any more, the store included."""


class Interrupts:
    """Within it the first Ctrl-C is remembered in `since`, the second raises KeyboardInterrupt; SIGTERM is remembered in `terminated`.

    Those that follow the second at once do nothing: they must not leave the driver half stopped.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self.terminated: float | None = None
        self._raised: float | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        # No more than this: what it interrupts may hold any lock.
        if number == signal.SIGTERM:
            self.terminated = self.terminated or time.monotonic()
        elif self.since is None:
            self.since = time.monotonic()
        elif self._raised is None or time.monotonic() - self._raised > DEAF_SECONDS:
            self._raised = time.monotonic()
            raise KeyboardInterrupt


@dataclass
class RunFollower:
    """Stays with one run.

    `supervisor`: of the driver that this process started; None when another process drives the run.
    `take_over`: starts a driver for a run that its own one left; None for those who only look.
    `earlier_end`: when the run ended before this submission, if it did. `patience`: seconds for a store that is away.
    """

    store: Store
    run_id: str
    display: Display
    interrupts: Interrupts
    supervisor: Supervisor | None = None
    earlier_end: float | None = None
    patience: float = 300.0
    take_over: Callable[[], Supervisor] | None = None
    _left: threading.Event = field(default_factory=threading.Event)
    _driver_told: bool | None = None
    """Once the system stops this command: whether it has a driver that stops as well."""

    def stay(self) -> None:
        """Return when the run has succeeded; raise the error that stands for any other end."""
        threading.Thread(target=self._listen, name="wishes", daemon=True).start()
        with contextlib.closing(self.display):
            try:
                document = self._until_end()
            except KeyboardInterrupt:
                self._left.set()
                if self.supervisor is None:
                    raise Cancelled(f"Stopped watching the run {self.run_id}, which was asked to stop.") from None
                self.display.note("stopping the driver at once")
                self.supervisor.stop()
                again = again_command(self.run_id, self.display.noun)
                raise StoppedAtOnce(
                    f"The {self.display.noun} {self.run_id} was stopped at once; continue it with: {again}"
                ) from None
            finally:
                self._left.set()
        raise_for(self.run_id, document)

    def _until_end(self) -> Document:
        record = RunRecord(self.store, self.run_id)
        for update in runs.watch(self.store, self.run_id, earlier_end=self.earlier_end, patience=self.patience):
            self.display.show(update)
            if update.problem is None and update.state in ENDED:
                break
            if self.interrupts.terminated is not None:
                raise self._hand_over()
            if self.interrupts.since is not None and time.monotonic() - self.interrupts.since > CANCEL_SECONDS:
                raise KeyboardInterrupt
            self._look_after_driver(record)
            if self.supervisor is None and update.state == RunState.LOST:
                if self.take_over is not None:
                    self.display.note("nobody drives the run any more: a driver is started here")
                    self.supervisor = self.take_over()
                    continue
                raise InfrastructureFailure(
                    f"The run {self.run_id} was lost: nobody drives it any more; submit it again to continue."
                )
        self._wait_for_exit()
        return update.document

    def _listen(self) -> None:
        """In a thread, for a store that is away holds up the one that looks at the run: pass on what signals want."""
        record, asked = RunRecord(self.store, self.run_id), 0.0
        while not self._left.wait(LISTEN_SECONDS):
            if self.interrupts.terminated is not None:
                self._terminate()
                return
            # Again and again: a driver that was just starting may have missed it.
            if self.interrupts.since is None or (asked and time.monotonic() - asked < REPEAT_SECONDS):
                continue
            if not asked:
                self.display.note("saving a checkpoint and stopping; press Ctrl-C again to stop at once")
            asked = time.monotonic()
            with contextlib.suppress(StoreError):
                if not record.person_cancelled():
                    record.request_cancel()

    def _terminate(self) -> None:
        """The system stops this command: its driver saves; nothing may keep this process for longer than the system waits."""
        self._driver_told = self.supervisor is not None and self.supervisor.leave()
        if not self._left.wait(SYSTEM_SECONDS):
            os._exit(InfrastructureFailure.exit_code)

    def _hand_over(self) -> InfrastructureFailure:
        """Wait for the driver that was told that the system stops it; what there is to say then."""
        deadline = time.monotonic() + SYSTEM_SECONDS
        while self._driver_told is None and time.monotonic() < deadline:
            time.sleep(LISTEN_SECONDS)
        while self._driver_told and self.supervisor and self.supervisor.poll() is None and time.monotonic() < deadline:
            time.sleep(LISTEN_SECONDS)
        noun = self.display.noun
        goes_on = "the same command goes on with it" if self._driver_told else f"the {noun} goes on without this command"
        return InfrastructureFailure(f"The system stopped this command, which followed the {noun} {self.run_id}: {goes_on}.")

    def _look_after_driver(self, record: RunRecord) -> None:
        """Start the driver again if need be; once it has left, see whether the run goes on without it."""
        if self.supervisor is None or (code := self.supervisor.poll()) is None:
            return
        try:
            state = record.state()
            ended = state["state"] in ENDED and (self.earlier_end is None or state.get("finished") != self.earlier_end)
            goes_on = ended or lease_is_live(lease_of(record))
        except StoreError:
            goes_on = False
        if not goes_on:
            raise _from_driver(self.run_id, code, self.supervisor.last_output)
        self.supervisor = None

    def _wait_for_exit(self) -> None:
        deadline = time.monotonic() + EXIT_SECONDS
        # The run has ended: a cluster that goes away behind it changes nothing.
        with contextlib.suppress(ClusterUnreachable):
            while self.supervisor is not None and self.supervisor.poll() is None:
                if time.monotonic() > deadline:
                    self.supervisor.stop()
                time.sleep(0.05)


def _from_driver(run_id: str, code: int, output: str) -> DelaylineError:
    """The error of a driver that left without a word in the store."""
    said = [line for line in output.splitlines() if line.strip()]
    errors = [line.partition("Error: ")[2] for line in said if "Error: " in line]
    message = (
        errors[-1]
        if errors
        else f"The driver of the run {run_id} ended with exit code {code}; it said: {' / '.join(said[-5:]) or 'nothing'}"
    )
    return for_exit_code(code or InfrastructureFailure.exit_code, message)


def again_command(run_id: str, noun: str) -> str:
    """What continues a run or a sweep."""
    return f"delayline {'sweep' if noun == 'sweep' else 'train'} --resume --name {run_id}"


def raise_for(run_id: str, document: Document) -> None:
    """Raise what the final state of a run stands for; return if it succeeded."""
    state, error = document["state"], document.get("error") or {}
    if state == RunState.SUCCEEDED:
        return
    if state == RunState.CANCELLED:
        noun = "sweep" if (document.get("summary") or {}).get("kind") == "sweep" else "run"
        raise Cancelled(f"The {noun} {run_id} was cancelled; continue it with: {again_command(run_id, noun)}")
    message = str(error.get("message") or f"The run {run_id} {state}.")
    code = int(document.get("exit_code") or error.get("exit_code") or InfrastructureFailure.exit_code)
    where = f" (`delayline runs logs {run_id}` shows the stack)" if code == UserFailure.exit_code else ""
    raise for_exit_code(code, f"{message}{where}", str(error.get("traceback") or ""))


def result_line(run: Document) -> str:
    """How a finished run or sweep ended, in one line."""
    metrics = run["metrics"]
    if run["kind"] == "sweep":
        return _sweep_line(run)
    tested = [name for name in metrics if name.startswith("test_")]
    tests = [name for name in ("test_accuracy", "test_loss") if name in tested]
    tests += [name for name in tested if name not in tests]
    parts = [f"run {run['id']} {run['state']}"]
    if run.get("started") and run.get("finished"):
        parts[0] += f" in {clock(run['finished'] - run['started'])}"
    parts += [figures(metrics, tests)] if tests else []
    if is_bits_task(run.get("spec", {}).get("task", "")) and "test_accuracy" in tests:
        parts[-1] += f"  (guesses {CHANCE_OF_BITS:.4f})"
    return f"{': '.join(parts)}  (store {run['store']})"


def _sweep_line(sweep: Document) -> str:
    took = f" in {clock(sweep['finished'] - sweep['started'])}" if sweep.get("started") and sweep.get("finished") else ""
    best = sweep.get("best")
    words = [f"sweep {sweep['id']} {sweep['state']}{took}"]
    if best:
        spread = f" ± {best['spread']:.4f}" if best.get("spread") is not None else ""
        values = parameters(best, several_bases(sweep["trials"])) or best["base"]
        words.append(f"best {best['metric']} {best['mean']:.4f}{spread} with {values}, trial {best['trial']}")
    return f"{': '.join(words)}  (store {sweep['store']})"
