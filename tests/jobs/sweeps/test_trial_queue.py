"""The queue of trials and the schedulers that Ray Tune is given."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from jobs.sweeps.trial_queue import TrialQueue, make_scheduler
from jobs.sweeps.trial_run import EVALUATION
from service.specs.sweep import SweepSpec

NOBODY: Any = None


def test_the_queue_hands_out_orders_and_takes_their_ends() -> None:
    orders = iter([{"id": "s-0000"}, {"id": "s-0001"}])
    heard: list[tuple[str, Any]] = []
    queue = TrialQueue(lambda: next(orders, None), lambda *told: heard.append(told))
    assert queue.suggest("a") == {"order": {"id": "s-0000"}}
    assert queue.suggest("b") == {"order": {"id": "s-0001"}}
    assert queue.suggest("c") == Searcher.FINISHED
    queue.on_trial_complete("b", {"over": True})
    queue.on_trial_complete("a", None, error=True)
    assert heard == [("s-0001", {"over": True}), ("s-0000", None)]


def test_where_trials_pause_the_queue_is_not_over_before_all_have_ended() -> None:
    orders = iter([{"id": "s-0000"}])
    queue = TrialQueue(lambda: next(orders, None), lambda *told: None, pauses=True)
    assert queue.suggest("a") == {"order": {"id": "s-0000"}}
    assert queue.suggest("b") is None
    queue.on_trial_complete("a", {"over": True})
    assert queue.suggest("b") == Searcher.FINISHED


def judged_by(scheduler: str) -> SweepSpec:
    return SweepSpec.model_validate(
        {
            "base": [{"name": "b", "values": {"model": "lenet5", "dataset": "digits", "epochs": 9}}],
            "space": {"batch": {"choice": [16, 32]}},
            "scheduler": {"name": scheduler, "grace_epochs": 2, "reduction": 2},
        }
    )


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_scheduler_stops_the_worse_and_nobody_before_the_grace_is_over(name: str) -> None:
    scheduler = make_scheduler(judged_by(name), NOBODY, 2)
    assert scheduler.set_search_properties("val_accuracy", "max")

    class Trial:
        def __init__(self, number: int) -> None:
            self.trial_id = f"t{number}"
            self.status = "RUNNING"
            self.last_result: dict[str, Any] = {}

        def is_finished(self) -> bool:
            return False

    trials = [Trial(number) for number in range(8)]
    decisions: dict[str, list[str]] = {trial.trial_id: [] for trial in trials}
    for trial in trials:
        scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
    for evaluation in (1, 2, 3):
        for number, trial in enumerate(trials):
            if "STOP" in decisions[trial.trial_id]:
                continue
            result = {EVALUATION: evaluation, "val_accuracy": 1.0 - number / 10, "training_iteration": evaluation}
            trial.last_result = result
            decisions[trial.trial_id].append(scheduler.on_trial_result(None, trial, result))  # type: ignore[arg-type]
    assert all(told[0] == "CONTINUE" for told in decisions.values())
    assert decisions["t0"] == ["CONTINUE"] * 3
    assert "STOP" in decisions["t7"]


def made(name: str) -> Any:
    scheduler: Any = make_scheduler(judged_by(name), NOBODY, 2)
    assert scheduler.set_search_properties("val_accuracy", "max")
    return scheduler


def row(evaluation: int, value: float) -> dict[str, Any]:
    return {EVALUATION: evaluation, "val_accuracy": value, "training_iteration": evaluation}


def test_asha_lets_the_best_continue_however_many_epochs_others_have() -> None:
    scheduler = made("asha")
    short, long = (SimpleNamespace(trial_id=name, is_finished=lambda: False) for name in ("short", "long"))
    for trial in (short, long):
        scheduler.on_trial_add(None, trial)
    scheduler.on_trial_complete(None, short, row(2, 0.1))
    assert [scheduler.on_trial_result(None, long, row(evaluation, 0.9)) for evaluation in range(1, 200)] == ["CONTINUE"] * 199


def test_median_counts_an_evaluation_once_though_a_trial_reports_it_again() -> None:
    scheduler = made("median")

    class Trial:
        trial_id = "t"
        status = "RUNNING"

    others, below, above = [Trial() for _ in range(3)], Trial(), Trial()
    nobody = SimpleNamespace(get_live_trials=lambda: [])
    for trial in (*others, below, above):
        scheduler.on_trial_add(None, trial)
    for trial in others:
        for evaluation, value in (*[(1, 0.1), (2, 0.8)] * 3, (3, 0.9)):
            scheduler.on_trial_result(nobody, trial, row(evaluation, value))
        scheduler.on_trial_complete(nobody, trial, row(3, 0.9))
    # The others' means behind the grace period are 0.85; they would be 0.825 if 0.8 counted thrice, 0.867 if 0.9 counted twice, and 0.84 if both did.
    assert scheduler.on_trial_result(nobody, below, row(3, 0.845)) == "STOP"
    assert scheduler.on_trial_result(nobody, above, row(3, 0.86)) == "CONTINUE"


def test_median_judges_the_others_when_a_trial_failed_and_has_no_value() -> None:
    scheduler = made("median")

    class Trial:
        status = "RUNNING"

        def __init__(self, number: int) -> None:
            self.trial_id = f"t{number}"

    trials = [Trial(number) for number in range(6)]
    nobody = SimpleNamespace(get_live_trials=lambda: [])
    for evaluation in (1, 2):
        for trial in trials[:5]:
            scheduler.on_trial_result(nobody, trial, row(evaluation, 0.9))
    scheduler.on_trial_complete(nobody, trials[0], {EVALUATION: 3, "training_iteration": 3})
    assert scheduler.on_trial_result(nobody, trials[5], row(2, 0.1)) == "STOP"
    assert scheduler.on_trial_result(nobody, trials[1], row(3, 0.9)) == "CONTINUE"
