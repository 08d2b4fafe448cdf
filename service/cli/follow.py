"""Stays with a run until its end: shows it, keeps its driver alive, and passes on the wish to stop."""

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

from service import runs
from service.cli.console import duration, figures
from service.cli.display import Display
from service.cluster.supervisor import Supervisor
from service.errors import Cancelled, DelaylineError, InfrastructureFailure, InvalidInput, StoreError, UserFailure
from service.storage.base import Store
from service.storage.records import ENDED, Document, RunRecord, lease_is_live

CANCEL_SECONDS = 120.0
"""How long a cancelled run may take to save and end (assumed: more than its driver allows its workers)."""
REPEAT_SECONDS = 5.0
"""Between repeats of the wish to stop: a driver that was just starting may have missed it."""
EXIT_SECONDS = 30.0
"""How long a driver may take to leave Ray after its run has ended (assumed)."""


class Interrupts:
    """Within it the first Ctrl-C (or SIGTERM) is remembered in `since`, the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.since: float | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.since is not None:
            raise KeyboardInterrupt
        self.since = time.monotonic()


def follow(
    store: Store,
    run_id: str,
    display: Display,
    supervisor: Supervisor | None,
    earlier_end: float | None = None,
    patience: float = 300.0,
) -> None:
    """Return when the run has succeeded; raise the error that stands for any other end.

    `supervisor`: of the driver that this process started; None when another process drives the run.
    """
    record = RunRecord(store, run_id)
    with Interrupts() as interrupts, contextlib.closing(display):
        try:
            document = _until_end(
                record, display, supervisor, interrupts, runs.watch(store, run_id, earlier_end=earlier_end, patience=patience)
            )
        except KeyboardInterrupt:
            if supervisor is None:
                raise Cancelled(f"Stopped watching the run {run_id}, which was asked to stop.") from None
            display.note("stopping the driver at once")
            supervisor.stop()
            raise Cancelled(
                f"The run {run_id} was stopped at once; continue it with: delayline train --resume --name {run_id}"
            ) from None
    raise_for(run_id, document)


def _until_end(
    record: RunRecord, display: Display, supervisor: Supervisor | None, interrupts: Interrupts, updates: Iterator[runs.Update]
) -> Document:
    asked = 0.0
    for update in updates:
        display.show(update)
        if update.problem is None and update.state in ENDED:
            _wait_for_exit(supervisor)
            return update.document
        if interrupts.since is not None and time.monotonic() - asked > REPEAT_SECONDS:
            asked = _ask_to_stop(record, display, first=asked == 0.0)
            if time.monotonic() - interrupts.since > CANCEL_SECONDS:
                raise KeyboardInterrupt
        if supervisor is not None and (code := supervisor.poll()) is not None:
            if _ended_or_taken_over(record, update):
                supervisor = None
            else:
                raise _from_driver(record.run_id, code, supervisor.last_output)
        if supervisor is None and update.state == "lost":
            raise InfrastructureFailure(
                f"The run {record.run_id} was lost: nobody drives it any more; submit it again to continue."
            )
    raise InfrastructureFailure(
        f"The run {record.run_id} cannot be watched any more; `delayline runs show {record.run_id}` says how it stands."
    )


def _ask_to_stop(record: RunRecord, display: Display, first: bool) -> float:
    if first:
        display.note("saving a checkpoint and stopping; press Ctrl-C again to stop at once")
    with contextlib.suppress(StoreError):
        if first or not record.cancel_requested():
            record.request_cancel()
    return time.monotonic()


def _wait_for_exit(supervisor: Supervisor | None) -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    while supervisor is not None and supervisor.poll() is None:
        if time.monotonic() > deadline:
            supervisor.stop()
        time.sleep(0.05)


def _ended_or_taken_over(record: RunRecord, update: runs.Update) -> bool:
    """Whether the next updates will tell how the run goes on, though this process's driver has left it."""
    try:
        document = record.state()
        return (document["state"] in ENDED and document.get("finished") != update.document.get("finished")) or lease_is_live(
            record.lease()
        )
    except StoreError:
        return False


def _from_driver(run_id: str, code: int, output: str) -> DelaylineError:
    """The error of a driver that left without a word in the store."""
    said = [line for line in output.splitlines() if line.strip()]
    errors = [line.partition("Error: ")[2] for line in said if "Error: " in line]
    message = (
        errors[-1]
        if errors
        else f"The driver of the run {run_id} ended with exit code {code}; it said: {' / '.join(said[-5:]) or 'nothing'}"
    )
    return _error(code or 4, message)


def raise_for(run_id: str, document: Document) -> None:
    """Raise what the final state of a run stands for; return if it succeeded."""
    state, error = document["state"], document.get("error") or {}
    if state == "succeeded":
        return
    if state == "cancelled":
        raise Cancelled(f"The run {run_id} was cancelled; continue it with: delayline train --resume --name {run_id}")
    message = str(error.get("message") or f"The run {run_id} {state}.")
    code = int(document.get("exit_code") or error.get("exit_code") or 4)
    where = f" (`delayline runs logs {run_id}` shows the stack)" if code == UserFailure.exit_code else ""
    raise _error(code, f"{message}{where}", str(error.get("traceback") or ""))


def _error(code: int, message: str, user_traceback: str = "") -> DelaylineError:
    if code == UserFailure.exit_code:
        return UserFailure(message, user_traceback)
    kinds: dict[int, type[DelaylineError]] = {2: InvalidInput, 5: StoreError, 130: Cancelled}
    return kinds.get(code, InfrastructureFailure)(message)


def result_line(run: Document) -> str:
    """How a finished run ended, in one line."""
    metrics = run["metrics"]
    tests = [name for name in ("test_accuracy", "test_loss") if name in metrics] or [
        name for name in metrics if name.startswith("test_")
    ]
    parts = [f"run {run['id']} {run['state']}"]
    if run.get("started") and run.get("finished"):
        parts[0] += f" in {duration(run['finished'] - run['started'])}"
    parts += [figures(metrics, tests)] if tests else []
    return ": ".join(parts) + f"  ({run['store'].rstrip('/')}/runs/{run['id']})"
