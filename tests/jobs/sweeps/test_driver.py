"""The sweep's table of trials, with a stand-in for Ray Tune that runs each trial at once; tests/integration/test_sweeps.py has the real one."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.sweeps import driver as sweep_driver
from jobs.sweeps.driver import SweepDriver
from jobs.sweeps.search import Proposer
from jobs.sweeps.tune import Capacity
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.sweeps.points import Points
from service.sweeps.trials import trial_rows

BASE = {"model": "lenet5", "dataset": "digits", "epochs": 9}
SPEC = SweepSpec.model_validate({"base": [{"name": "b", "values": BASE}], "space": {"batch": {"grid": [16, 32, 64]}}, "seeds": 2})
Act = Callable[[RunRecord, dict[str, Any]], dict[str, Any] | None]
Sweep = Callable[..., int]


class Killed(BaseException):
    """The driver's process ends in the middle of its work."""


def end(record: RunRecord, state: str, value: float | None = None, **error: Any) -> dict[str, Any]:
    """Let a trial's run end; what Tune would hear."""
    metrics = {} if value is None else {"val_accuracy": value}
    attempts = [*record.state()["attempts"], {"number": 1, "started": 1.0, "finished": 2.0, "reason": state}]
    record.write_state({"state": state, "metrics": metrics, "attempts": attempts, "error": error or None, "exit_code": 0})
    return {**metrics, "over": True}


def learns(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
    return end(record, "succeeded", record.spec().batch / 100 + record.spec().seed / 1000)


@pytest.fixture
def sweep(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Drives the sweep `s`, each trial as `act` says; returns the exit code."""
    monkeypatch.setattr(sweep_driver, "connect", lambda *_: Capacity(1, {"CPU": 1.0}, True, None))
    monkeypatch.setattr(sweep_driver, "disconnect", lambda: None)
    monkeypatch.setattr(sweep_driver, "local_ray_lives", lambda: True)
    monkeypatch.setattr(SweepDriver, "_report", lambda self: None)

    def drive(act: Act, spec: SweepSpec = SPEC) -> int:
        def run_trials(sweep: Any, first: Any, capacity: Any, take: Any, ended: Any, members: Any, folder: Any) -> None:
            while (order := take()) is not None:
                ended(order["id"], act(RunRecord(local_store, order["id"]), order))

        monkeypatch.setattr(sweep_driver, "run_trials", run_trials)
        record = RunRecord(local_store, "s")
        record.claim(spec, {"recipe": "mine", "folder": "/somewhere", "dataset_version": "7"})
        lease = Lease(record)
        assert lease.acquire()
        try:
            return SweepDriver(record, spec, Settings.load(store=local_store.url), lease, "/somewhere", lambda _: None).run()
        finally:
            lease.release()

    return drive


def states(store: Store) -> list[str]:
    return [row["state"] for row in trial_rows(store, RunRecord(store, "s").trials())]


def test_every_point_and_seed_is_a_run_of_its_own(sweep: Sweep, local_store: Store) -> None:
    assert sweep(learns) == 0
    record = RunRecord(local_store, "s")
    trials = record.trials()
    assert [(trial["id"], trial["params"]["batch"], trial["seed"]) for trial in trials] == [
        (f"s-{number:04d}", batch, seed) for number, (batch, seed) in enumerate((b, s) for b in (16, 32, 64) for s in (0, 1))
    ]
    specs = [RunRecord(local_store, trial["id"]).spec() for trial in trials]
    assert [(spec.batch, spec.seed) for spec in specs] == [(trial["params"]["batch"], trial["seed"]) for trial in trials]
    submission = RunRecord(local_store, "s-0003").submission()
    assert (submission["sweep"], submission["dataset_version"], submission["folder"]) == ("s", "7", "/somewhere")
    state = record.state()
    assert (state["state"], state["exit_code"]) == ("succeeded", 0)
    assert state["metrics"]["val_accuracy"] == pytest.approx(0.6405)
    assert record.progress()["best"]["params"] == {"batch": 64}


def test_a_killed_driver_is_gone_on_with_and_nothing_over_is_done_again(sweep: Sweep, local_store: Store) -> None:
    done: list[str] = []

    def twice_then_killed(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if len(done) == 3:
            raise Killed
        done.append(order["id"])
        return learns(record, order)

    with pytest.raises(Killed):
        sweep(twice_then_killed)
    assert states(local_store) == ["succeeded"] * 3 + ["queued"]

    def noted(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        done.append(order["id"])
        return learns(record, order)

    assert sweep(noted) == 0
    assert done == [f"s-{number:04d}" for number in range(6)]
    assert "goes on with 1 of 4 trials; 3 are over" in [row["message"] for row in RunRecord(local_store, "s").events()]


def test_tune_has_a_current_folder_where_the_drivers_is_gone(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def makes_anew(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if home.exists():
            home.rmdir()
        assert Path.cwd().exists()
        return learns(record, order)

    assert sweep(makes_anew) == 0
    with pytest.raises(FileNotFoundError):
        Path.cwd()


def test_a_trial_that_was_claimed_but_not_noted_gets_the_spec_that_is_due(sweep: Sweep, local_store: Store) -> None:
    other = TrainSpec.model_validate({**BASE, "batch": 8})
    RunRecord(local_store, "s-0001").claim(other, {"sweep": "s"})
    assert sweep(learns) == 0
    assert RunRecord(local_store, "s-0001").spec().batch == 16


def test_a_run_that_is_no_trial_is_left_alone(sweep: Sweep, local_store: Store) -> None:
    RunRecord(local_store, "s-0001").claim(TrainSpec.model_validate({**BASE, "batch": 8}), {})
    assert sweep(learns) == 2
    assert "belongs to a run that is no trial" in RunRecord(local_store, "s").state()["error"]["message"]
    assert RunRecord(local_store, "s-0001").spec().batch == 8


def test_some_failures_are_no_failure_of_the_sweep_but_all_are(sweep: Sweep, local_store: Store) -> None:
    def some(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if record.spec().batch == 32:
            return end(record, "failed", kind="user", message="my mistake")
        return learns(record, order)

    assert sweep(some) == 0
    assert states(local_store).count("failed") == 2


def test_when_all_fail_the_sweep_says_the_first_reason(sweep: Sweep, local_store: Store) -> None:
    assert sweep(lambda record, order: end(record, "failed", kind="user", message="my mistake")) == 3
    assert "All 6 trials failed, the first by: my mistake" in RunRecord(local_store, "s").state()["error"]["message"]


def test_trials_that_did_not_end_are_told_and_gone_on_with(sweep: Sweep, local_store: Store) -> None:
    assert sweep(lambda record, order: learns(record, order) if record.spec().batch < 64 else None) == 4
    error = RunRecord(local_store, "s").state()["error"]
    assert "2 of 6 trials did not end, s-0004 among them" in error["message"]
    assert sweep(learns) == 0


def lost(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
    return end(record, "failed", kind="infrastructure", exit_code=4, message="a node was lost")


def test_when_all_fail_by_what_they_cannot_help_the_exit_code_says_so(sweep: Sweep, local_store: Store) -> None:
    def mixed(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if order["id"] == "s-0004":
            return lost(record, order)
        return end(record, "failed", kind="user", exit_code=3, message="my mistake")

    assert sweep(mixed) == 4
    error = RunRecord(local_store, "s").state()["error"]
    assert (error["kind"], error["message"]) == ("infrastructure", "All 6 trials failed, s-0004 by: a node was lost")


def test_trials_that_were_lost_run_again_and_what_they_find_then_counts(sweep: Sweep, local_store: Store) -> None:
    assert sweep(lost) == 4

    def slowly(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        # The driver looks at all trials meanwhile.
        time.sleep(0.5)
        return learns(record, order)

    assert sweep(slowly) == 0
    state = RunRecord(local_store, "s").state()
    assert (state["state"], state["error"]) == ("succeeded", None)
    assert state["metrics"]["val_accuracy"] == pytest.approx(0.6405)
    assert RunRecord(local_store, "s").progress()["trials"] == {"succeeded": 6}


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_what_is_over_is_told_again_to_a_scheduler_and_not_trained_on(sweep: Sweep, local_store: Store, scheduler: str) -> None:
    spec = SPEC.model_copy(update={"scheduler": SPEC.scheduler.model_copy(update={"name": scheduler})})

    def stopped_then_killed(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        assert not order["over"]
        if order["id"] == "s-0002":
            raise Killed
        end(record, "cancelled", 0.1)
        return {"val_accuracy": 0.1, "evaluation": 2}

    with pytest.raises(Killed):
        sweep(stopped_then_killed, spec)
    told: dict[str, bool] = {}

    def noted(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        told[order["id"]] = order["over"]
        return {"val_accuracy": 0.1, "over": True} if order["over"] else learns(record, order)

    assert sweep(noted, spec) == 0
    assert told == {f"s-{number:04d}": number < 2 for number in range(6)}
    assert states(local_store) == ["stopped"] * 2 + ["succeeded"] * 4


def test_tpe_hears_of_each_seed_once_however_often_the_scheduler_does(
    sweep: Sweep, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = {"optimizer.learning_rate": {"loguniform": [1e-4, 1e-1]}}
    keys = {"seeds": 2, "search": "tpe", "trials": 4, "scheduler": {"name": "asha"}}
    base = {**BASE, "optimizer": {"name": "adam", "learning_rate": 0.1}}
    spec = SweepSpec.model_validate({"base": [{"name": "b", "values": base}], "space": rate, **keys})
    told: list[tuple[int, list[float]]] = []
    monkeypatch.setattr(Proposer, "tell", lambda self, point, values: told.append((point.number, values)))

    def first(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if order["id"] == "s-0001":
            raise Killed
        return end(record, "succeeded", 0.2)

    with pytest.raises(Killed):
        sweep(first, spec)
    assert (
        sweep(lambda record, order: {"val_accuracy": 0.2, "over": True} if order["over"] else end(record, "succeeded", 0.8), spec)
        == 0
    )
    assert told == [(0, [0.2, 0.8]), (1, [0.8, 0.8])]


def test_a_trial_that_paused_once_may_be_cancelled_by_a_person(sweep: Sweep, local_store: Store) -> None:
    spec = SPEC.model_copy(update={"seeds": 1})

    def killed_as_it_paused(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        end(record, "cancelled", 0.3)
        trials = RunRecord(local_store, "s").trials()
        RunRecord(local_store, "s").write_trials([{**trials[0], "pauses": True}, *trials[1:]])
        raise Killed

    def act(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        return learns(record, order) if order["id"] != "s-0000" else end(record, "cancelled", 0.3)

    with pytest.raises(Killed):
        sweep(killed_as_it_paused, spec)
    assert sweep(act, spec) == 0
    assert states(local_store) == ["cancelled", "succeeded", "succeeded"]


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
    assert [tuple(trial["params"].values()) for trial in record.trials()] == [(5, 40), (5, 20), (30, 40)]
    messages = [row["message"] for row in record.events()]
    assert sum(message.startswith("point 3 is left out: ") for message in messages) == 1
    assert messages[-1] == "the sweep ended: succeeded (3 succeeded)"


def test_a_trial_that_the_scheduler_stops_is_stopped_with_the_reason(sweep: Sweep, local_store: Store) -> None:
    spec = SPEC.model_copy(update={"scheduler": SPEC.scheduler.model_copy(update={"name": "asha"})})

    def judged(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        assert order["by_evaluation"]
        if record.spec().batch == 16:
            end(record, "cancelled", 0.1)
            return {"val_accuracy": 0.1, "evaluation": 2}
        return learns(record, order)

    assert sweep(judged, spec) == 0
    assert states(local_store) == ["stopped"] * 2 + ["succeeded"] * 4
    stopped = RunRecord(local_store, "s").trials()[0]["stopped"]
    assert stopped == {
        "by": "asha",
        "evaluation": 2,
        "message": "asha: after 2 evaluations val_accuracy 0.1000 was not among the best",
    }


def test_a_request_to_stop_reaches_the_trials_and_begins_no_more(sweep: Sweep, local_store: Store) -> None:
    asked: list[str] = []

    def waits(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        RunRecord(local_store, "s").request_cancel()
        limit = time.monotonic() + 20
        while not record.cancel_requested() and time.monotonic() < limit:
            time.sleep(0.05)
        asked.append(order["id"])
        return end(record, "cancelled")

    assert sweep(waits) == 130
    assert asked == ["s-0000"]
    assert RunRecord(local_store, "s").state()["state"] == "cancelled"
    assert not RunRecord(local_store, "s").cancel_requested()


def test_a_request_to_stop_that_ends_the_trials_before_the_watch_sees_it_is_one_all_the_same(
    sweep: Sweep, local_store: Store
) -> None:
    def the_first_alone(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if order["id"] != "s-0000":
            return {"over": True}
        RunRecord(local_store, "s").request_cancel()
        return learns(record, order)

    assert sweep(the_first_alone) == 130
    assert RunRecord(local_store, "s").state()["state"] == "cancelled"
    assert states(local_store) == ["succeeded"] + ["queued"] * 5


def test_the_budget_stops_what_is_under_way_and_the_sweep_has_succeeded(sweep: Sweep, local_store: Store) -> None:
    spec = SPEC.model_copy(update={"budget": 0.2})

    def waits(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        limit = time.monotonic() + 20
        while not record.cancel_requested() and time.monotonic() < limit:
            time.sleep(0.05)
        return end(record, "cancelled", 0.3)

    assert sweep(waits, spec) == 0
    assert states(local_store)[0] == "stopped"
    assert RunRecord(local_store, "s").trials()[0]["stopped"]["by"] == "budget"


def divided(values: dict[str, list[int]], **keys: Any) -> SweepSpec:
    space = {"epochs": values, "batch": {"expression": "64 // (epochs - 2)"}}
    return SweepSpec.model_validate({"base": [{"name": "b", "values": BASE}], "space": space, "together": "never", **keys})


def test_points_whose_expressions_fail_are_left_out(sweep: Sweep, local_store: Store) -> None:
    assert sweep(lambda record, order: end(record, "succeeded", 0.5), divided({"grid": [3, 2, 200, 4]})) == 0
    record = RunRecord(local_store, "s")
    assert [trial["params"]["batch"] for trial in record.trials()] == [64, 32]
    assert any(row["message"].startswith("2 points from 1 on are left out, the first because: ") for row in record.events())


def test_draws_that_hardly_ever_make_a_spec_end_the_sweep(
    sweep: Sweep, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.sweeps.trial_table.MOST_LEFT_OUT", 3)
    spec = divided({"choice": [2, 3, 200, 300, 400, 500]}, search="random", budget=100.0)
    first = next(seed for seed in range(100) if Points(spec.model_copy(update={"seed": seed})).point(0).params["batch"] == 64)
    assert sweep(lambda record, order: end(record, "succeeded", 0.5), spec.model_copy(update={"seed": first})) == 2
    state = RunRecord(local_store, "s").state()
    assert "3 points in a row make no spec; of the last one" in state["error"]["message"]
    assert RunRecord(local_store, "s").progress()["total"] is None


def test_a_budget_is_not_begun_anew_by_a_driver_that_follows_a_killed_one(sweep: Sweep, local_store: Store) -> None:
    spec = SPEC.model_copy(update={"budget": 100.0})

    def killed(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        whole = RunRecord(local_store, "s")
        whole.write_progress({**whole.progress(), "used_seconds": 99.9})
        raise Killed

    with pytest.raises(Killed):
        sweep(killed, spec)
    begun: list[str] = []

    def waits(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        begun.append(order["id"])
        limit = time.monotonic() + 20
        while not record.cancel_requested() and time.monotonic() < limit:
            time.sleep(0.05)
        return end(record, "cancelled", 0.3)

    assert sweep(waits, spec) == 0
    assert begun == ["s-0000"]


def test_what_a_budget_stopped_goes_on_with_a_larger_one(sweep: Sweep, local_store: Store) -> None:
    def waits(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        limit = time.monotonic() + 20
        while not record.cancel_requested() and time.monotonic() < limit:
            time.sleep(0.05)
        assert not RunRecord(local_store, "s").person_cancelled()
        return end(record, "cancelled", 0.3)

    assert sweep(waits, SPEC.model_copy(update={"budget": 0.2})) == 0
    assert states(local_store)[0] == "stopped"
    assert sweep(learns, SPEC.model_copy(update={"budget": 100.0})) == 0
    assert states(local_store) == ["succeeded"] * 6


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
        ids = [order["id"], *order["companions"]]
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
    assert record.state()["metrics"]["val_accuracy"] == pytest.approx(0.4005)
    assert [row["trials"] for row in record.events() if row["event"] == "together"] == handed


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


def test_what_is_left_of_a_company_is_handed_out_together_again(sweep: Sweep, local_store: Store) -> None:
    def one_then_killed(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        learns(record, order)
        raise Killed

    with pytest.raises(Killed):
        sweep(one_then_killed, TOGETHER)
    handed: list[list[str]] = []
    assert sweep(learn_all(local_store, handed), TOGETHER) == 0
    assert handed[0] == ["s-0001", "s-0002", "s-0003"]
    assert states(local_store) == ["succeeded"] * 8


def test_a_request_to_stop_reaches_all_of_a_company(sweep: Sweep, local_store: Store) -> None:
    def waits(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        RunRecord(local_store, "s").request_cancel()
        runs = [RunRecord(local_store, run_id) for run_id in (order["id"], *order["companions"])]
        limit = time.monotonic() + 20
        while not all(run.cancel_requested() for run in runs) and time.monotonic() < limit:
            time.sleep(0.05)
        for run in runs:
            assert run.cancel_requested()
            end(run, "cancelled")
        return {"over": True}

    assert sweep(waits, TOGETHER) == 130
    assert len(states(local_store)) >= 4
