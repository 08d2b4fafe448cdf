"""How a run stands, told from its documents, and how it ends when no driver is there to end it."""

import contextlib
import time

from service.background import start_in_background
from service.errors import Cancelled, DelaylineError, InvalidInput, LeaseLost, NotFound
from service.records.lease import Lease, SeenLease, lease_is_live, lease_of
from service.records.run_record import RunRecord
from service.records.schemas import SIGNAL, Failure, RunState, StateDocument
from service.storage.base import Store
from service.user_folder import python

QUEUED_SECONDS = 60.0
"""A run without a driver for so long after it was submitted counts as lost (assumed: a slow machine starts one in 20 s)."""


def standing(
    state: StateDocument, lease: SeenLease | None, submitted_ago: float, queued_seconds: float | None = None
) -> RunState:
    """The state of a run as a reader sees it: `lost` when it has not ended and nobody alive drives it.

    `lease` with its age; `submitted_ago`: seconds since its spec was written, by the store's clock; `queued_seconds`: for how long
    its cluster may take to start a driver.
    """
    if state.is_ended or lease_is_live(lease) or state.was_interrupted:
        return state.state
    return (
        RunState.QUEUED
        if state.state == RunState.QUEUED and submitted_ago < (queued_seconds or QUEUED_SECONDS)
        else RunState.LOST
    )


def standing_of(record: RunRecord, state: StateDocument) -> RunState:
    """How a run in this state stands; reads what else it takes to tell."""
    return state.state if state.is_ended else standing(state, *_looked_up(record, state))


def is_driven(record: RunRecord, state: StateDocument) -> bool:
    """Whether somebody drives a run that has not ended, or is about to."""
    found = _looked_up(record, state)
    return lease_is_live(found[0]) or standing(state, *found) == RunState.QUEUED


def _looked_up(record: RunRecord, state: StateDocument) -> tuple[SeenLease | None, float, float | None]:
    lease = lease_of(record)
    if state.state == RunState.QUEUED and not lease_is_live(lease):
        with contextlib.suppress(NotFound):
            return lease, record.store.read_aged(record.paths.spec).age, record.submission().queued_seconds
    return lease, 0.0, None


def cancel_without_driver(record: RunRecord) -> bool:
    """Call a run cancelled that nobody drives; return False, having done nothing, when somebody does or it has ended."""
    return _end_without_driver(record, RunState.CANCELLED, None, Cancelled.exit_code)


def fail_without_driver(record: RunRecord, error: DelaylineError) -> bool:
    """Call a run failed that nobody drives; return False, having done nothing, when somebody does or it has ended."""
    return _end_without_driver(record, RunState.FAILED, Failure.of(error), error.exit_code)


def interrupt_without_driver(record: RunRecord) -> bool:
    """Leave a run that nobody drives to the next submission, as its driver does when the system stops it; False as above."""
    return _end_without_driver(record, RunState.RETRYING, None, None)


def start_after_stop(record: RunRecord, driver: int, ask_ray: bool = False) -> None:
    """Let a process of its own write the end of a run whose driver may be gone before it does, as soon as the store answers.

    `driver`: its process, whose end is waited for; 0 for one of another machine. `ask_ray`: whether a person stopped the run is for
    Ray to say; without it one has.
    """
    argv = [*python("jobs.driving.after_stop"), "--run", record.run_id, "--store", record.store.url, "--driver", str(driver)]
    with contextlib.suppress(OSError):
        start_in_background([*argv, "--ask-ray" if ask_ray else "--cancelled"])


def _end_without_driver(record: RunRecord, state: RunState, error: Failure | None, exit_code: int | None) -> bool:
    lease = Lease(record)
    if not lease.acquire():
        return False
    ending, ended = RunRecord(record.store, record.run_id), False
    ending.guard = lease.assure

    def end(found: StateDocument) -> StateDocument | None:
        nonlocal ended
        ended = not found.is_ended
        if not ended:
            return None
        now = time.time()
        lost = {"finished": now, "reason": "the driver was lost"}
        interrupted = state == RunState.RETRYING
        made = found.changed(
            state=state,
            attempts=[each.changed(**lost) if each.finished is None else each for each in found.attempts],
            finished=None if interrupted else now,
            metrics=found.metrics or ending.progress().metrics,
            error=error,
            exit_code=exit_code,
        )
        if not interrupted:
            return ending.with_handled_cancel(made)
        return ending.with_handled_cancel(made.changed(reason=SIGNAL), SIGNAL)

    try:
        ending.take_state(end)
    except LeaseLost:
        return False
    finally:
        lease.release()
    if ended and state.is_ended:
        _start_report(record)
    return ended


def _start_report(record: RunRecord) -> None:
    """Let the run's page be made, as a driver would have done; nobody waits for it."""
    argv = [*python("jobs.report"), "--run", record.run_id, "--store", record.store.url]
    with contextlib.suppress(OSError):
        start_in_background(argv)


def cancel(store: Store, run_id: str) -> str:
    """Ask a run to save and stop; return `cancelled` when nobody drove it and it ended at once, else `requested`.

    Raise InvalidInput when it has ended.
    """
    record = RunRecord(store, run_id)
    record.submission()
    state = record.state()
    if state.is_ended:
        raise InvalidInput(f"The run {run_id!r} has ended already ({state.state}): there is nothing to cancel.")
    record.request_cancel()
    if not lease_is_live(lease_of(record)) and cancel_without_driver(record):
        return RunState.CANCELLED.value
    return "requested"
