"""Claims a run's id for a spec, or answers a repeat: a command and a driver that starts by itself submit alike."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from service.errors import InvalidInput
from service.records.differences import differing
from service.records.lease import lease_is_live, lease_of
from service.records.run_record import Document, RunRecord, rows_to_bytes
from service.records.schemas import RunState, StateDocument
from service.records.standing import standing_of
from service.records.submission_schemas import Origin, SubmissionDocument
from service.records.submissions import as_of_today
from service.specs.sweep import SweepSpec
from service.specs.tags import kept_tags, without_tags
from service.specs.train import TrainSpec

NOUNS = {"train": "run", "sweep": "sweep"}
CHANGEABLE = {
    "train": ("workers", "worker", "retries", "time_limit", "stall_limit", "input", "package_data"),
    "sweep": ("workers", "parallel", "trials", "budget", "together"),
}
"""Keys that a resumed run of each kind may change: the run is the same, or goes further, with other values."""

GoesFurther = Callable[[RunRecord, SweepSpec], bool]
"""Whether a sweep that succeeded has more to do by a spec; see service.sweeps.trials."""


@dataclass(frozen=True)
class Submission:
    """What became of a submission.

    `action`: `start` (a driver is to be started), `attach` (somebody drives the run), `finished` (it has its result) or `ended` (it
    failed or was cancelled, and nobody said to resume it).
    """

    action: str
    resume: bool = False
    """The driver must be told to resume a run that failed or was cancelled, or a sweep that goes further."""
    changed: bool = False
    """The new spec replaces the stored one for this submission."""
    earlier_end: float | None = None
    """When the run ended before, in seconds since 1970."""
    remark: str | None = None
    """What the run keeps as it was first submitted, though this submission says otherwise."""


def kind_of(spec: TrainSpec | SweepSpec) -> str:
    """`train` or `sweep`."""
    return "sweep" if isinstance(spec, SweepSpec) else "train"


def check_kind(run_id: str, submission: SubmissionDocument, wanted: str, option: str = "--name") -> None:
    """Raise InvalidInput where the id is a sweep's and a run is `wanted`, or the other way about."""
    if submission.kind != wanted:
        raise InvalidInput(f"{run_id!r} is a {NOUNS[submission.kind]}, not a {NOUNS[wanted]}: give another {option}.")


def claim(
    record: RunRecord,
    spec: TrainSpec | SweepSpec,
    origin: Callable[[], Origin],
    *,
    resume: bool,
    goes_further: GoesFurther,
) -> Submission:
    """Claim the record's id for the spec, or say what becomes of the run that has this id already.

    `origin` checks a run that is new before it is claimed, and returns how it was submitted: `recipe`, `command`, `folder`, ….
    Raise InvalidInput where the id is another spec's, and UnknownName where there is no run to resume.
    """
    if not resume and not record.store.exists(record.paths.spec) and record.claim(spec, origin()):
        return Submission("start")
    differences = check_spec(record, spec, resume)
    stored = _comparable(record, spec)
    remark = kept_tags(f"The {NOUNS[kind_of(spec)]} {record.run_id!r}", stored.get("tags", ()), spec.tags)
    return replace(_repeat(record, spec, resume, differences, goes_further), remark=remark)


def check_spec(record: RunRecord, spec: TrainSpec | SweepSpec, resume: bool) -> list[str]:
    """How the spec differs from the one that the id has; raise InvalidInput where it may not."""
    differences = differing(without_tags(_comparable(record, spec)), without_tags(spec.document()))
    changeable, noun = CHANGEABLE[kind_of(spec)], NOUNS[kind_of(spec)]
    refused = [line for key, line in differences if not (resume and key in changeable)]
    if refused:
        raise InvalidInput(
            f"The {noun} {record.run_id!r} exists with another spec ({'; '.join(refused[:8])}): give another --name, or the spec "
            f"that it has; with --resume {', '.join(changeable)} may change."
        )
    return [line for _, line in differences]


def replaces_spec(record: RunRecord, spec: TrainSpec | SweepSpec, resume: bool) -> bool:
    """Whether `claim` would let the spec stand in for the stored one; nothing is written."""
    if not resume or not record.store.exists(record.paths.spec):
        return False
    return bool(differing(without_tags(_comparable(record, spec)), without_tags(spec.document())))


def how_to_resume(run_id: str, noun: str, state: RunState) -> str:
    """The sentence for a run that failed or was cancelled, and that nobody said to resume."""
    how = "failed" if state == RunState.FAILED else "was cancelled"
    return f"The {noun} {run_id!r} {how}: add --resume to continue from its last checkpoint, or give another --name."


def _comparable(record: RunRecord, spec: TrainSpec | SweepSpec) -> Document:
    """The stored spec with the keys of today; raise InvalidInput where it is of another kind than this one."""
    submission = record.submission()
    check_kind(record.run_id, submission, kind_of(spec))
    return as_of_today(submission.spec, type(spec))


def _repeat(
    record: RunRecord, spec: TrainSpec | SweepSpec, resume: bool, changes: list[str], goes_further: GoesFurther
) -> Submission:
    # Read first: a request that comes later is not one of those that ended the run before.
    asked = record.cancel.standing()
    state = record.state()
    if state.state == RunState.SUCCEEDED and not (resume and isinstance(spec, SweepSpec) and goes_further(record, spec)):
        return Submission("finished")
    ended = state.is_ended
    if not ended and (lease_is_live(lease_of(record)) or standing_of(record, state) == RunState.QUEUED):
        return Submission("attach")
    if ended and not resume:
        return Submission("ended", earlier_end=state.finished)
    if asked:
        record.cancel.withdraw(request=asked.id)
    if changes:
        _note_changes(record, state, changes)
    return Submission("start", resume=resume, changed=bool(changes), earlier_end=state.finished if ended else None)


def _note_changes(record: RunRecord, state: StateDocument, changes: list[str]) -> None:
    attempt = state.attempt or 0
    message = f"submitted again with changes ({'; '.join(changes)})"
    row = {"time": time.time(), "attempt": attempt, "event": "changed", "message": message}
    record.store.write(record.paths.events(record.label(attempt), f"submit-{time.time_ns()}"), rows_to_bytes([row]))
