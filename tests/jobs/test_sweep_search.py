from typing import Any

import pytest
from ray.tune.search import Searcher

from jobs.sweep_search import EVALUATION, Proposer, TrialQueue, make_scheduler
from service.sweep_points import Points
from service.sweep_specs import SweepSpec

NOBODY: Any = None
BASE = {"model": "lenet5", "dataset": "digits", "epochs": 9}


def sweep(**keys: Any) -> SweepSpec:
    space = {
        "optimizer.learning_rate": {"uniform": [0.0001, 1.0]},
        "batch": {"choice": [16, 32]},
        "epochs": {"expression": "batch / 16"},
    }
    return SweepSpec.model_validate(
        {"base": [{"name": "b", "values": BASE}], "space": space, "search": "random", "trials": 30, **keys}
    )


def test_points_are_proposed_in_order_and_known_ones_are_not_proposed_again() -> None:
    spec = sweep(trials=5)
    points, first = Points(spec), Proposer(spec)
    assert [first.propose() for _ in range(6)] == [*(points.point(number) for number in range(5)), None]
    second = Proposer(spec)
    second.known(points.point(0))
    second.known(points.point(2))
    assert second.propose() == points.point(3)


def test_tpe_draws_where_it_was_good() -> None:
    proposer = Proposer(sweep(search="tpe", trials=60))
    rates = []
    while (point := proposer.propose()) is not None:
        rate = point.params["optimizer.learning_rate"]
        assert point.params["epochs"] == point.params["batch"] / 16
        rates.append(rate)
        proposer.tell(point, [1 - (rate - 0.3) ** 2])
    late = rates[30:]
    assert sum(abs(rate - 0.3) < 0.15 for rate in late) > 0.6 * len(late)


def test_tpe_learns_from_what_an_earlier_driver_found() -> None:
    spec = sweep(search="tpe", trials=40, mode="min", metric="val_loss")
    proposer, points = Proposer(spec), Points(sweep(trials=40))
    for number in range(30):
        point = points.point(number)
        proposer.known(point)
        proposer.tell(point, [(point.params["optimizer.learning_rate"] - 0.7) ** 2])
    found = [point.params["optimizer.learning_rate"] for _ in range(10) if (point := proposer.propose()) is not None]
    assert len(found) == 10
    assert sum(abs(rate - 0.7) < 0.2 for rate in found) > 5


def test_the_queue_hands_out_orders_and_hears_of_their_ends() -> None:
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


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_scheduler_stops_the_worse_and_nobody_before_the_grace_is_over(name: str) -> None:
    scheduler = make_scheduler(sweep(scheduler={"name": name, "grace_epochs": 2, "reduction": 2}), 9, NOBODY, 2)
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
