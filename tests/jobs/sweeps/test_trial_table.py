"""What a sweep's table says of trials that take over from others; test_driver.py has the rest."""

import pytest

from jobs.sweeps.trial_table import TrialTable
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.records.submission_schemas import Origin
from service.records.sweep_schemas import Mutation, Trial
from service.specs.sweep import SweepSpec
from service.storage.base import Store

BASE = {"model": "lenet5", "dataset": "digits", "epochs": 9, "optimizer": {"name": "sgd", "learning_rate": 0.1}}
SPACE = {"label_smoothing": {"grid": [0.1, 0.2]}, "optimizer.learning_rate": {"expression": "0.3 - label_smoothing"}}
SPEC = SweepSpec.model_validate({"base": [{"name": "b", "values": BASE}], "space": SPACE, "scheduler": "pbt"})


@pytest.fixture
def record(local_store: Store) -> RunRecord:
    record = RunRecord(local_store, "s")
    record.claim(SPEC, Origin(recipe="mine", folder="/somewhere"))
    return record


def begun(record: RunRecord) -> tuple[TrialTable, Trial, Trial]:
    trial_table = TrialTable(record, SPEC, print)
    first, second = trial_table.take(), trial_table.take()
    assert first is not None
    assert second is not None
    return trial_table, first, second


def test_a_mutation_is_in_the_record_with_its_expressions_worked_out_anew(record: RunRecord) -> None:
    trial_table, first, second = begun(record)
    assert trial_table.mutation(second) is None
    second = trial_table.mutate(second, first, 40, {**first.params, "label_smoothing": 0.15})
    (_, noted) = record.trials()
    assert noted.params == {"label_smoothing": 0.15, "optimizer.learning_rate": pytest.approx(0.15)}
    assert noted.first_params["label_smoothing"] == 0.2
    assert noted.mutations == (Mutation(step=40, donor=first.id, params=noted.params),)
    told = trial_table.mutation(second)
    assert told is not None
    assert (told["number"], told["from"], told["step"]) == (1, first.id, 40)
    assert told["spec"]["optimizer"]["learning_rate"] == pytest.approx(0.15)
    second = trial_table.mutate(second, first, 80, {**first.params, "label_smoothing": 0.16})
    assert record.trials()[1].first_params["label_smoothing"] == 0.2
    trial_table.note_taken(second, 1, 50)
    assert [each.step for each in record.trials()[1].mutations] == [50, 80]


def test_values_that_make_no_spec_give_way_to_those_of_the_other_trial(record: RunRecord) -> None:
    trial_table, first, second = begun(record)
    second = trial_table.mutate(second, first, 40, {"label_smoothing": 0.3, "optimizer.learning_rate": 0.1})
    assert second.params == first.params


def test_a_new_driver_resumes_with_the_newest_values_and_repeats_no_trial_that_ended(record: RunRecord) -> None:
    trial_table, first, second = begun(record)
    second = trial_table.mutate(second, first, 40, {**first.params, "label_smoothing": 0.15})
    RunRecord(record.store, first.id).write_state(StateDocument(state="succeeded", attempts=[], metrics={"val_accuracy": 0.5}))
    again = TrialTable(record, SPEC, print)
    assert again.recall(has_time=True) == 1
    assert [trial.id for trial in again.waiting] == [second.id]
    assert again.mutation(again.waiting[0]) == trial_table.mutation(second)
    assert again.take() is not None
    assert again.take() is None


def test_a_trial_is_paused_until_the_sweep_is_stopped(record: RunRecord) -> None:
    trial_table, first, _ = begun(record)
    trial_table.note_pause(first)
    assert [trial.pauses for trial in record.trials()] == [True, False]
    trial_table.end_pauses()
    assert [trial.pauses for trial in record.trials()] == [False, False]
