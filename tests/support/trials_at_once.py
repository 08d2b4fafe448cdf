"""A sweep's driver with a stand-in for Ray Tune, which runs each trial at once; tests/integration/test_sweeps.py has the real one."""

from collections.abc import Callable
from typing import Any

from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.specs.sweep import SweepSpec
from service.storage.base import Store
from service.sweeps.trials import trial_rows

BASE = {"model": "lenet5", "dataset": "digits", "epochs": 9}
SPEC = SweepSpec.model_validate({"base": [{"name": "b", "values": BASE}], "space": {"batch": {"grid": [16, 32, 64]}}, "seeds": 2})
Act = Callable[[RunRecord, dict[str, Any]], dict[str, Any] | None]
Sweep = Callable[..., int]


class Killed(BaseException):
    """The driver's process ends in the middle of its work."""


def end(record: RunRecord, state: str, value: float | None = None, **error: Any) -> dict[str, Any]:
    """Let a trial's run end; return what Tune would be given."""
    metrics = {} if value is None else {"val_accuracy": value}
    attempts = [*record.state().attempts, {"number": 1, "started": 1.0, "finished": 2.0, "reason": state}]
    record.write_state(StateDocument(state=state, metrics=metrics, attempts=attempts, error=error or None, exit_code=0))
    return {**metrics, "over": True}


def learns(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
    return end(record, "succeeded", record.spec().batch / 100 + record.spec().seed / 1000)


def states(store: Store) -> list[str]:
    return [row.state for row in trial_rows(store, RunRecord(store, "s").trials())]
