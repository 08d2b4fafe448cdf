"""What Tune is given of a trial."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.sweeps import trial as module
from jobs.sweeps.trial import Trial
from jobs.sweeps.trial_order import TrialOrder
from jobs.sweeps.trial_process import TrialProcess
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.records.submission_schemas import Origin
from service.specs.train import TrainSpec
from service.storage.base import Store

SPEC = TrainSpec.model_validate({"model": "dense", "dataset": "digits", "epochs": 9})


def test_rows_that_a_run_gives_up_are_not_reported(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record = RunRecord(local_store, "s-0001")
    record.claim(SPEC, Origin(sweep="s"))
    record.write_history([{"epoch": epoch, "step": 10 * epoch, "val_loss": 1 / epoch} for epoch in range(1, 5)])

    def take_over(run: RunRecord, mutation: dict[str, Any]) -> int:
        time.sleep(0.5)
        run.write_history([row for row in run.metric_rows() if row["step"] <= mutation["step"]])
        return int(mutation["step"])

    def drive(make_group: Any, prepare: Callable[[], None]) -> None:
        prepare()

    monkeypatch.setattr(module, "take_over", take_over)
    monkeypatch.setattr(TrialOrder, "runs", lambda self: [SimpleNamespace(record=record, drive=drive)])
    order = TrialOrder(
        "s-0001", "s", local_store.url, "/somewhere", "val_loss", by_evaluation=True, from_history=True, over=False,
        mutation={"number": 1, "step": 20}, distributed=False, local=True, environment={},
    )  # fmt: skip
    told = list(Trial(order).reports())
    assert [report["step"] for report in told[:-1]] == [10, 20]
    assert told[-1]["done"]
    assert {report["taken"] for report in told} == {20}


def test_a_process_that_is_ended_before_its_first_step_has_not_begun_the_run(local_store: Store) -> None:
    record = RunRecord(local_store, "s-0002")
    record.claim(SPEC, Origin(sweep="s"))
    order = {
        "id": "s-0002", "sweep": "s", "store": local_store.url, "folder": "/somewhere", "metric": "val_loss", "by_evaluation": False,
        "from_history": False, "over": False, "mutation": None, "distributed": False, "local": True, "environment": {},
    }  # fmt: skip
    process = TrialProcess({"order": order})
    try:
        time.sleep(1.0)
        assert process.reset_config({"order": order})
        time.sleep(1.0)
    finally:
        process.stop()
    assert record.state().state == "queued"
    assert not record.state().attempts
    assert not record.cancel_requested()


@pytest.mark.parametrize(("state", "end"), [("cancelled", 3), ("succeeded", 4)])
def test_a_trial_that_is_over_is_reported_again_and_not_driven(
    local_store: Store, monkeypatch: pytest.MonkeyPatch, state: str, end: int
) -> None:
    record = RunRecord(local_store, "s-0003")
    record.claim(SPEC, Origin(sweep="s"))
    record.write_history([{"epoch": epoch, "step": 10 * epoch, "val_loss": 1 / epoch} for epoch in range(1, 4)])
    record.write_state(StateDocument(state=state, attempts=[], metrics={"val_loss": 0.25}))

    def drive(make_group: Any, prepare: Callable[[], None]) -> None:
        raise AssertionError("it is driven")

    monkeypatch.setattr(TrialOrder, "runs", lambda self: [SimpleNamespace(record=record, drive=drive)])
    order = TrialOrder(
        "s-0003", "s", local_store.url, "/somewhere", "val_loss", by_evaluation=True, from_history=True, over=True,
        mutation=None, distributed=False, local=True, environment={},
    )  # fmt: skip
    told = list(Trial(order).reports())
    assert [report["evaluation"] for report in told] == [1, 2, 3, end]
    assert (told[-1]["val_loss"], told[-1]["over"]) == (0.25, True)
