"""How an attempt ended: by what its workers left in the store, or by what Ray says of those that left nothing."""

from jobs.driving.outcome import Outcome
from service.errors import DelaylineError, InfrastructureFailure, InvalidInput, LeaseLost, StoreError, UserFailure
from service.records.run_record import RunRecord
from service.records.schemas import Failure, RunState
from service.records.stored_document import read_document
from service.scratch import full_disk

_WORSE_FIRST = [each.kind for each in (LeaseLost, UserFailure, InvalidInput, StoreError, InfrastructureFailure)]
"""Of the failures of several workers: what the worst one met, the others saw as a lost peer."""
_KEPT = ("kind", "exit_code", "message", "rank", "traceback")
"""What a run's state says of a worker's failure."""


def outcome_of_attempt(record: RunRecord, number: int, error: BaseException | None) -> Outcome:
    """The outcome of the attempt of this number, which is over; `error` is what its group says of it. Raise StoreError."""
    if error is None:
        phase = record.progress().phase
        return Outcome.cancelled() if phase == RunState.CANCELLED else Outcome.succeeded()
    failures = [
        read_document(Failure, record.store.read(info.key), info.key)
        for info in record.store.objects(record.paths.failures_root(record.label(number)))
    ]
    if not failures:
        return Outcome.failed(InfrastructureFailure(describe(error)))
    # What the others saw of a worker that stood still is a lost peer.
    worst = min(failures, key=lambda failure: (_severity(failure.kind), not failure.stalled))
    # What never worked is a mistake in the settings, which another attempt would meet again.
    passing = worst.kind == StoreError.kind and worst.passing and bool(record.checkpoints())
    return Outcome.failed(Failure.model_validate({name: getattr(worst, name) for name in _KEPT}), passing)


def _severity(kind: str | None) -> int:
    return _WORSE_FIRST.index(kind) if kind in _WORSE_FIRST else len(_WORSE_FIRST)


def describe(error: BaseException) -> str:
    """Ray's error in one sentence."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", {})
    if failures:
        ranks = ", ".join(str(rank) for rank in sorted(failures))
        text = str(next(iter(failures.values()))).strip().splitlines()
        return f"Worker {ranks} was lost: {(text[0] if text else type(error).__name__)[:300]}"
    if isinstance(error, DelaylineError):
        return str(error)
    if isinstance(error, OSError) and (full := full_disk(error)):
        return full
    text = str(getattr(error, "controller_failure", error)).strip().splitlines()
    return f"Ray could not run the workers: {(text[0] if text else type(error).__name__)[:300]}"
