"""Submit a plan: nothing is written or started before it stands, and a repeat does no harm."""

from service.errors import InvalidInput
from service.records import claim as claims
from service.records.run_record import RunRecord
from service.storage.base import Store
from service.submission.plan import Plan
from service.sweeps.trials import goes_further


def submit(plan: Plan, store: Store) -> claims.Submission:
    """Claim the run's id, or find out what becomes of the run that has it.

    Raise InvalidInput when the id stands for another spec, or for a run that failed or was cancelled without `resume`.
    """
    record = RunRecord(store, plan.run_id)
    submission = claims.claim(record, plan.spec, lambda: plan.origin, resume=plan.resume, goes_further=goes_further)
    if submission.action == "ended":
        raise InvalidInput(claims.how_to_resume(plan.run_id, plan.noun, record.state().state))
    return submission


def replaces_spec(plan: Plan, store: Store) -> bool:
    """Whether `submit` would let the plan's spec stand in for the stored one; nothing is written."""
    return claims.replaces_spec(RunRecord(store, plan.run_id), plan.spec, plan.resume)
