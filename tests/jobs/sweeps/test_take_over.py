"""What a run has in the store after it took over from another one."""

import threading
from typing import Any

import keras
import numpy as np
import pytest

from jobs.checkpoints import CheckpointStore, Snapshot
from jobs.optimizers import make_optimizer
from jobs.sweeps import take_over as module
from jobs.sweeps.take_over import take_over
from jobs.variables import assign_variables, copy_variables
from service.specs import TrainSpec
from service.storage.base import Store
from service.storage.records import RunRecord

BASE: dict[str, Any] = {"model": "dense", "dataset": "digits", "epochs": 9, "checkpoint": {"every_epochs": 1, "keep_last": 5}}
GOOD, BAD = "s-0000", "s-0001"


def spec(rate: float) -> TrainSpec:
    return TrainSpec.model_validate({**BASE, "optimizer": {"name": "sgd", "momentum": 0.9, "learning_rate": rate}})


def optimizer_of(rate: float) -> keras.optimizers.Optimizer:
    optimizer = make_optimizer(spec(rate), 100)
    optimizer.build([keras.Variable(np.zeros(3, np.float32))])
    return optimizer


def write_run(store: Store, run_id: str, rate: float, steps: list[int]) -> RunRecord:
    """A run with a checkpoint and a row of metrics at each step, whose weights say whose they are."""
    record = RunRecord(store, run_id)
    record.claim(spec(rate), {"sweep": "s", "params": {"optimizer.learning_rate": rate}, "submitted": 1.0})
    rows = [{"epoch": step // 10, "step": step, "val_accuracy": rate} for step in range(10, steps[-1] + 1, 10)]
    for step in steps:
        optimizer = optimizer_of(rate)
        optimizer.variables[2].assign(np.full(3, step + rate, np.float32))
        weights = {"00000 kernel": np.full(4, step + rate, np.float32)}
        history = [row for row in rows if row["step"] <= step]
        checkpoints(record).save(Snapshot(step, step // 10, weights, copy_variables(optimizer.variables), history, {"at": step}))
    record.write_history(rows)
    record.write_progress({"steps": 90})
    return record


def checkpoints(record: RunRecord) -> CheckpointStore:
    return CheckpointStore(record, spec(1).checkpoint, record.label(1))


def mutation(step: int, number: int = 1, rate: float = 0.06) -> dict[str, Any]:
    params = {"optimizer.learning_rate": rate}
    return {"number": number, "from": GOOD, "step": step, "params": params, "spec": spec(rate).document()}


def newest(record: RunRecord) -> Snapshot:
    found = checkpoints(record).load_newest(lambda step, why: pytest.fail(why))
    assert found is not None
    return found


def test_the_other_runs_weights_are_taken_and_what_lies_behind_them_is_dropped(local_store: Store) -> None:
    good, bad = write_run(local_store, GOOD, 0.05, [10, 20]), write_run(local_store, BAD, 1e-7, [10, 20, 30])
    take_over(bad, mutation(20))
    taken, given = newest(bad), checkpoints(good).load(20)
    assert taken.step == 20
    np.testing.assert_array_equal(taken.model["00000 kernel"], given.model["00000 kernel"])
    assert taken.position == given.position
    assert [row["step"] for row in taken.history] == [row["step"] for row in bad.history()] == [10, 20]
    assert {row["val_accuracy"] for row in taken.history} == {1e-7}
    assert newest(good).history[0]["val_accuracy"] == 0.05


def test_the_optimizer_goes_on_with_the_new_rate_and_the_others_momentum(local_store: Store) -> None:
    write_run(local_store, GOOD, 0.05, [10])
    bad = write_run(local_store, BAD, 1e-7, [10])
    take_over(bad, mutation(10))
    optimizer = optimizer_of(0.06)
    assign_variables(optimizer.variables, newest(bad).optimizer)
    assert float(optimizer.learning_rate) == pytest.approx(0.06)
    np.testing.assert_allclose(optimizer.variables[2], np.full(3, 10.05), rtol=1e-6)


def test_the_runs_spec_and_its_events_say_what_happened(local_store: Store) -> None:
    write_run(local_store, GOOD, 0.05, [10])
    bad = write_run(local_store, BAD, 1e-7, [10])
    take_over(bad, mutation(10))
    assert bad.spec() == spec(0.06)
    submission = bad.submission()
    assert (submission["sweep"], submission["submitted"], submission["mutations"]) == ("s", 1.0, 1)
    assert submission["params"] == {"optimizer.learning_rate": 0.06}
    (event,) = bad.events()
    assert event["message"] == "took over from s-0000 at step 10; optimizer.learning_rate 1e-07 -> 0.06"
    assert (event["from"], event["step"]) == (GOOD, 10)


def test_what_was_taken_over_is_not_taken_over_again(local_store: Store) -> None:
    write_run(local_store, GOOD, 0.05, [10, 20])
    bad = write_run(local_store, BAD, 1e-7, [10])
    assert take_over(bad, mutation(10)) == 10
    assert take_over(bad, mutation(20)) == 10
    assert newest(bad).step == 10
    assert take_over(bad, mutation(20, number=2)) == 20
    assert newest(bad).step == 20


@pytest.mark.parametrize(("where", "what"), [(RunRecord, "replace_spec"), (RunRecord, "write_history")])
def test_a_process_that_was_killed_in_between_does_it_all_once_more(
    local_store: Store, monkeypatch: pytest.MonkeyPatch, where: type, what: str
) -> None:
    write_run(local_store, GOOD, 0.05, [10])
    bad = write_run(local_store, BAD, 1e-7, [10, 20])

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(where, what, killed)
        take_over(bad, mutation(10))
    assert bad.spec() == spec(1e-7)
    take_over(bad, mutation(10))
    assert (newest(bad).step, bad.spec()) == (10, spec(0.06))


@pytest.mark.parametrize(
    ("kept", "taken"), [([30, 40], 30), ([10], 10), ([10, 90], 10)], ids=["pruned", "not yet there", "the other one has ended"]
)
def test_without_the_checkpoint_of_that_step_the_nearest_will_do_but_never_the_end(
    kept: list[int], taken: int, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    write_run(local_store, GOOD, 0.05, kept)
    bad = write_run(local_store, BAD, 1e-7, [20])
    take_over(bad, mutation(20))
    assert newest(bad).step == taken
    assert newest(bad).model["00000 kernel"][0] == pytest.approx(taken + 0.05)


def test_a_checkpoint_that_is_on_its_way_is_waited_for(local_store: Store) -> None:
    write_run(local_store, GOOD, 0.05, [10])
    bad = write_run(local_store, BAD, 1e-7, [10])
    later = threading.Timer(0.5, write_run, (local_store, GOOD, 0.05, [20]))
    later.start()
    take_over(bad, mutation(20))
    later.join()
    assert newest(bad).step == 20


def test_a_damaged_checkpoint_is_not_taken(local_store: Store) -> None:
    good, bad = write_run(local_store, GOOD, 0.05, [20, 30]), write_run(local_store, BAD, 1e-7, [20])
    path = next(str(each["path"]) for each in good.checkpoints() if each["step"] == 20)
    local_store.write(path + "model.safetensors", b"nonsense")
    take_over(bad, mutation(20))
    assert newest(bad).step == 30


def test_where_no_checkpoint_is_left_a_run_keeps_its_own_weights_and_takes_the_values(local_store: Store) -> None:
    write_run(local_store, GOOD, 0.05, [90])
    bad = write_run(local_store, BAD, 1e-7, [10, 20])
    assert take_over(bad, mutation(20)) is None
    kept = newest(bad)
    assert kept.model["00000 kernel"][0] == pytest.approx(20)
    rates = [array for name, array in kept.optimizer.items() if name.endswith("learning_rate")]
    assert [float(rate) for rate in rates] == [pytest.approx(0.06)]
    assert bad.spec() == spec(0.06)
    assert "keeps its weights, for s-0000 has no checkpoint left" in bad.events()[0]["message"]
