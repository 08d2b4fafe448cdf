"""Which run stands for what was named in a comparison: a run for itself, a sweep's best trial for the sweep."""

from collections.abc import Sequence

from jobs.reports.facts import is_sweep
from service.errors import InvalidInput
from service.records.run_record import RunRecord
from service.storage.base import Store
from service.sweeps.trials import best_of, trial_rows


def stand_ins(store: Store, run_ids: Sequence[str]) -> dict[str, str | None]:
    """The runs to compare, in order, each with the sweep that it stands for; raise InvalidInput or UnknownName."""
    chosen: dict[str, str | None] = {}
    for run_id in run_ids:
        record = RunRecord(store, run_id)
        sweep = run_id if is_sweep(record) else None
        run = run_id if sweep is None else best_trial(record)
        if run in chosen:
            raise InvalidInput(
                f"The run {run!r} is named twice, once as the best trial of the sweep {sweep or chosen[run]!r}: "
                f"name the sweep or that trial."
            )
        chosen[run] = sweep
    return chosen


def best_trial(record: RunRecord) -> str:
    """The id of a sweep's best trial; raise InvalidInput before any trial has the sweep's metric."""
    spec = record.sweep_spec()
    best = best_of(trial_rows(record.store, record.trials()), spec.metric, spec.mode)
    if best is None:
        raise InvalidInput(
            f"The sweep {record.run_id!r} has no best trial to compare: none has reported {spec.metric}; name runs, or wait for its first."
        )
    return best.trial
