"""Points of a sweep that make no spec."""

from typing import Any

import pytest
from support.trials_at_once import BASE, Killed, Sweep, end

from service.records.run_record import RunRecord
from service.specs.sweep import SweepSpec
from service.storage.base import Store
from service.sweeps.points import Points


def test_points_whose_values_make_no_spec_together_are_left_out(sweep: Sweep, local_store: Store) -> None:
    space = {"dataset_params.delay": {"grid": [5, 30]}, "dataset_params.length": {"grid": [40, 20]}}
    bits = {"model": "gru", "dataset": "bits", "task": "bit-memory", "epochs": 2}
    spec = SweepSpec.model_validate({"base": [{"name": "b", "values": bits}], "space": space, "together": "never"})

    def killed_at_the_last(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if record.spec().dataset_params["delay"] == 30:
            raise Killed
        return end(record, "succeeded", 0.5)

    with pytest.raises(Killed):
        sweep(killed_at_the_last, spec)
    assert sweep(lambda record, order: end(record, "succeeded", 0.5), spec) == 0
    record = RunRecord(local_store, "s")
    assert [tuple(trial.params.values()) for trial in record.trials()] == [(5, 40), (5, 20), (30, 40)]
    messages = [row.message for row in record.events()]
    assert sum(message.startswith("point 3 is left out: ") for message in messages) == 1
    assert messages[-1] == "the sweep ended: succeeded (3 succeeded)"


def divided(values: dict[str, list[int]], **keys: Any) -> SweepSpec:
    space = {"epochs": values, "batch": {"expression": "64 // (epochs - 2)"}}
    return SweepSpec.model_validate({"base": [{"name": "b", "values": BASE}], "space": space, "together": "never", **keys})


def test_points_whose_expressions_fail_are_left_out(sweep: Sweep, local_store: Store) -> None:
    assert sweep(lambda record, order: end(record, "succeeded", 0.5), divided({"grid": [3, 2, 200, 4]})) == 0
    record = RunRecord(local_store, "s")
    assert [trial.params["batch"] for trial in record.trials()] == [64, 32]
    assert any(row.message.startswith("2 points from 1 on are left out, the first because: ") for row in record.events())


def test_draws_that_hardly_ever_make_a_spec_end_the_sweep(
    sweep: Sweep, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.sweeps.trial_table.MOST_LEFT_OUT", 3)
    spec = divided({"choice": [2, 3, 200, 300, 400, 500]}, search="random", budget=100.0)
    first = next(seed for seed in range(100) if Points(spec.model_copy(update={"seed": seed})).point(0).params["batch"] == 64)
    assert sweep(lambda record, order: end(record, "succeeded", 0.5), spec.model_copy(update={"seed": first})) == 2
    state = RunRecord(local_store, "s").state()
    assert "3 points in a row make no spec; of the last one" in state.error.message
    assert RunRecord(local_store, "s").progress().total is None
