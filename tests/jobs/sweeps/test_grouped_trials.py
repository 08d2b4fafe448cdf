"""Trials that differ in seed and rate alone, handed out as one group."""

import time
from typing import Any

import pytest
from support.trials_at_once import Act, Killed, Sweep, end, learns, states

from jobs.sweeps import driver as sweep_driver
from jobs.sweeps.tune import Capacity
from service.records.run_record import RunRecord
from service.specs.sweep import SweepSpec
from service.storage.base import Store

MEMORISER = {
    "model": "gru",
    "dataset": "bits",
    "task": "bit-memory",
    "optimizer": {"name": "adam", "learning_rate": 0.1},
    "epochs": 2,
    "batch": 20,
}


TOGETHER = SweepSpec.model_validate(
    {
        "base": [{"name": "b", "values": MEMORISER}],
        "space": {"batch": {"grid": [20, 40]}, "optimizer.learning_rate": {"grid": [0.001, 0.01]}},
        "seeds": 2,
    }
)


def learn_all(store: Store, handed: list[list[str]]) -> Act:
    """Let all trials of an order learn; note which were handed out together."""

    def act(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        ids = [order["id"], *order["others"]]
        handed.append(ids)
        for run_id in ids:
            learns(RunRecord(store, run_id), order)
        return {"over": True}

    return act


def test_trials_that_differ_in_seed_and_rate_are_handed_out_together(sweep: Sweep, local_store: Store) -> None:
    handed: list[list[str]] = []
    assert sweep(learn_all(local_store, handed), TOGETHER) == 0
    assert handed == [[f"s-{number:04d}" for number in numbers] for numbers in (range(4), range(4, 8))]
    record = RunRecord(local_store, "s")
    assert record.state().metrics["val_accuracy"] == pytest.approx(0.4005)
    assert [row.trials for row in record.events() if row.event == "together"] == handed


def test_each_process_has_an_equal_share(sweep: Sweep, local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_driver, "connect", lambda *_: Capacity(4, {"CPU": 1.0}, True, None))
    handed: list[list[str]] = []
    assert sweep(learn_all(local_store, handed), TOGETHER) == 0
    assert [len(each) for each in handed] == [2, 2, 2, 2]


@pytest.mark.parametrize("changes", [{"together": "never"}, {"search": "tpe", "trials": 4, "seeds": 1}], ids=["never", "tpe"])
def test_trials_that_wait_for_results_or_shall_train_apart_do(sweep: Sweep, local_store: Store, changes: dict[str, Any]) -> None:
    handed: list[list[str]] = []
    assert sweep(learn_all(local_store, handed), SweepSpec.model_validate({**TOGETHER.document(), **changes})) == 0
    assert {len(each) for each in handed} == {1}


def test_what_remains_of_a_group_is_handed_out_together_again(sweep: Sweep, local_store: Store) -> None:
    def one_then_killed(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        learns(record, order)
        raise Killed

    with pytest.raises(Killed):
        sweep(one_then_killed, TOGETHER)
    handed: list[list[str]] = []
    assert sweep(learn_all(local_store, handed), TOGETHER) == 0
    assert handed[0] == ["s-0001", "s-0002", "s-0003"]
    assert states(local_store) == ["succeeded"] * 8


def test_a_request_to_stop_reaches_all_of_a_group(sweep: Sweep, local_store: Store) -> None:
    def waits(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        RunRecord(local_store, "s").request_cancel()
        runs = [RunRecord(local_store, run_id) for run_id in (order["id"], *order["others"])]
        limit = time.monotonic() + 20
        while not all(run.cancel_requested() for run in runs) and time.monotonic() < limit:
            time.sleep(0.05)
        for run in runs:
            assert run.cancel_requested()
            end(run, "cancelled")
        return {"over": True}

    assert sweep(waits, TOGETHER) == 130
    assert len(states(local_store)) >= 4
