"""Submit a plan: nothing is written or started before it is complete, and a repeat changes nothing."""

from service.errors import InvalidInput
from service.records import claim as claims
from service.records.run_record import RunRecord
from service.storage.base import Store
from service.submission.plan import Plan
from service.sweeps.trials import goes_further


def submit(plan: Plan, store: Store) -> claims.Submission:
    """Claim the run's id, or find out what becomes of the run that has it.

    Raise InvalidInput when the id is another spec's, or that of a run that failed or was cancelled and is not resumed.
    """
    record = RunRecord(store, plan.run_id)
    submission = claims.claim(record, plan.spec, lambda: plan.origin, resume=plan.resume, goes_further=goes_further)
    if submission.action == "ended":
        raise InvalidInput(claims.how_to_resume(plan.run_id, plan.noun, record.state().state))
    return submission


def replaces_spec(plan: Plan, store: Store) -> bool:
    """Whether `submit` would replace the stored spec by the plan's; nothing is written."""
    return claims.replaces_spec(RunRecord(store, plan.run_id), plan.spec, plan.resume)
