"""The run of a trial: when it is driven, and with which budget."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.sweeps import trial_run as trial_runs
from jobs.sweeps.trial_run import TrialRun
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.records.sweep_schemas import Trial
from service.settings import Settings
from service.storage.base import Store


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each driver that was made began with a fresh budget; none of them trains."""
    budgets: list[bool] = []

    def make(record: RunRecord, *rest: Any, fresh_budget: bool, **keys: Any) -> Any:
        budgets.append(fresh_budget)
        return SimpleNamespace(run=lambda: None)

    monkeypatch.setattr(trial_runs, "Driver", make)
    return budgets


@pytest.mark.parametrize(
    ("state", "pauses", "fresh"),
    [
        ("cancelled", False, [True]),
        ("cancelled", True, [False]),
        ("running", False, [False]),
        ("succeeded", False, []),
        ("failed", True, []),
    ],
)
def test_a_trial_that_a_person_stopped_begins_anew_and_one_that_paused_resumes(
    state: str, pauses: bool, fresh: list[bool], local_store: Store, make_spec: Any, driven: list[bool], tmp_path: Path
) -> None:
    record, sweep = RunRecord(local_store, "a-sweep-0001"), RunRecord(local_store, "a-sweep")
    record.claim(make_spec())
    record.write_state(StateDocument(state=state, attempts=[]))
    point = {"base": "cnn", "params": {}, "seed": 0}
    ids = {"a-sweep-0000": True, record.run_id: pauses}
    sweep.write_trials(
        [Trial(id=name, number=n, point=n, **point, pauses=is_paused) for n, (name, is_paused) in enumerate(ids.items())]
    )
    run = TrialRun(record, sweep.run_id, Settings.load(store=local_store.url), str(tmp_path))
    assert run.drive(lambda *_: pytest.fail("no group is made")) is None
    assert driven == fresh


def test_a_trial_does_not_begin_once_its_sweep_was_stopped(
    local_store: Store, make_spec: Any, driven: list[bool], tmp_path: Path
) -> None:
    record, sweep = RunRecord(local_store, "a-sweep-0001"), RunRecord(local_store, "a-sweep")
    record.claim(make_spec())
    sweep.request_cancel()
    run = TrialRun(record, sweep.run_id, Settings.load(store=local_store.url), str(tmp_path))
    assert run.drive(lambda *_: pytest.fail("no group is made")) is None
    assert not driven


@pytest.mark.parametrize(("kind", "fresh"), [("infrastructure", [True]), ("store", [True]), ("lease", [True]), ("user", [])])
def test_a_trial_that_was_lost_begins_with_new_retries_and_one_that_is_at_fault_does_not(
    kind: str, fresh: list[bool], local_store: Store, make_spec: Any, driven: list[bool], tmp_path: Path
) -> None:
    record = RunRecord(local_store, "a-sweep-0001")
    record.claim(make_spec())
    record.write_state(StateDocument(state="failed", attempts=[], error={"kind": kind, "message": "why"}))
    run = TrialRun(record, "a-sweep", Settings.load(store=local_store.url), str(tmp_path))
    assert run.drive(lambda *_: pytest.fail("no group is made")) is None
    assert driven == fresh
