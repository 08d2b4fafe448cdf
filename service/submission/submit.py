"""Plan a run, then submit it: nothing is written or started before the plan stands, and a repeat does no harm."""

import time
from dataclasses import dataclass, replace

from service.errors import InvalidInput
from service.records.differences import differing
from service.records.lease import lease_is_live, lease_of
from service.records.run_record import Document, RunRecord, as_of_today, rows_to_bytes
from service.records.schemas import ENDED
from service.records.standing import standing_of
from service.specs.sweep import SweepSpec
from service.specs.tags import kept_tags, without_tags
from service.storage.base import Store
from service.submission.plan import NOUNS, Plan
from service.sweeps.trials import goes_further

CHANGEABLE = {
    "train": ("workers", "worker", "retries", "time_limit", "stall_limit", "input", "package_data"),
    "sweep": ("workers", "parallel", "trials", "budget", "together"),
}
"""Keys that a resumed run of each kind may change: the run is the same, or goes further, with other values."""


@dataclass(frozen=True)
class Submission:
    """What became of a plan.

    `action`: `start` (a driver is to be started), `attach` (somebody drives the run) or `finished` (it has its result).
    """

    action: str
    resume: bool = False
    """The driver must be told to go on with a run that failed or was cancelled, or with a sweep that goes further."""
    changed: bool = False
    """The plan's spec replaces the stored one for this submission."""
    earlier_end: float | None = None
    """When the run ended before, in seconds since 1970."""
    remark: str | None = None
    """What of the plan the run does not take over, and trains the same without."""


def submit(plan: Plan, store: Store) -> Submission:
    """Claim the run's id, or find out how the run with this id goes on.

    Raise InvalidInput when the id stands for another spec, or for a run that failed or was cancelled without `resume`.
    """
    record = RunRecord(store, plan.run_id)
    if not plan.resume and record.claim(plan.spec, plan.origin):
        return Submission("start")
    submission = record.submission()
    stored = as_of_today(submission["spec"], type(plan.spec))
    differences = _differences(plan, stored)
    refused = [line for key, line in differences if not (plan.resume and key in CHANGEABLE[plan.kind])]
    if submission.get("kind", "train") != plan.kind:
        raise InvalidInput(f"{plan.run_id!r} is a {NOUNS[str(submission.get('kind', 'train'))]}: give another --name.")
    if refused:
        changeable = ", ".join(CHANGEABLE[plan.kind])
        raise InvalidInput(
            f"The {plan.noun} {plan.run_id!r} exists with another spec ({'; '.join(refused[:8])}): give another --name, or the spec "
            f"that it has; with --resume {changeable} may change."
        )
    remark = kept_tags(f"The {plan.noun} {plan.run_id!r}", stored.get("tags", ()), plan.spec.tags)
    return replace(_repeat(plan, record, submission, [line for _, line in differences]), remark=remark)


def replaces_spec(plan: Plan, store: Store) -> bool:
    """Whether `submit` would let the plan's spec stand in for the stored one; nothing is written."""
    record = RunRecord(store, plan.run_id)
    if not plan.resume or not store.exists(record.paths.spec):
        return False
    return bool(_differences(plan, as_of_today(record.submission()["spec"], type(plan.spec))))


def _differences(plan: Plan, stored: Document) -> list[tuple[str, str]]:
    return differing(without_tags(stored), without_tags(plan.spec.document()))


def _repeat(plan: Plan, record: RunRecord, submission: Document, changes: list[str]) -> Submission:
    # Read first: a request that comes later is not one of those that ended the run before.
    asked = record.cancel.standing().get("id")
    state = record.state()
    if state["state"] == "succeeded" and not _goes_further(plan, record):
        return Submission("finished")
    ended = state["state"] in ENDED
    if not ended and (lease_is_live(lease_of(record)) or standing_of(record, state) == "queued"):
        return Submission("attach")
    if ended and not plan.resume:
        how = "failed" if state["state"] == "failed" else "was cancelled"
        raise InvalidInput(
            f"The {plan.noun} {plan.run_id!r} {how}: add --resume to go on from its last checkpoint, or give another --name."
        )
    if asked:
        record.cancel.withdraw(request=asked)
    if changes:
        _note_changes(record, state, changes)
    return Submission("start", resume=plan.resume, changed=bool(changes), earlier_end=state.get("finished") if ended else None)


def _goes_further(plan: Plan, record: RunRecord) -> bool:
    """Whether a sweep that succeeded, such as one that its budget ended, is to do more than it did."""
    return plan.resume and isinstance(plan.spec, SweepSpec) and goes_further(record, plan.spec)


def _note_changes(record: RunRecord, state: Document, changes: list[str]) -> None:
    attempt = int(state.get("attempt", 0))
    message = f"submitted again with changes ({'; '.join(changes)})"
    row = {"time": time.time(), "attempt": attempt, "event": "changed", "message": message}
    record.store.write(record.paths.events(record.label(attempt), f"submit-{time.time_ns()}"), rows_to_bytes([row]))
