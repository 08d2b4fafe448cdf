"""Who takes over from whom, and with what values, with a stand-in for Tune's controller; tests/integration/test_sweeps.py has the real one."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.sweeps.population import Population
from jobs.sweeps.trial_run import EVALUATION, STEP
from service.specs.sweep import SweepSpec

BASE = {"model": "lenet5", "dataset": "digits", "epochs": 9}
RANGES = {
    "optimizer.learning_rate": {"loguniform": [0.01, 0.02]},
    "optimizer.weight_decay": {"uniform": [0.1, 0.2]},
    "optimizer.learning_rate.warmup_steps": {"integers": [3, 5]},
    "label_smoothing": {"grid": [0.2, 0.0, 0.1]},
}


def sweep(space: dict[str, Any], **scheduler: Any) -> SweepSpec:
    values = {"base": [{"name": "b", "values": BASE}], "space": space, "scheduler": {"name": "pbt", **scheduler}}
    return SweepSpec.model_validate({**values, "search": "random", "trials": 8})


class FakeTrialTable:
    """The driver's part: who took over, who paused."""

    def __init__(self, params: dict[str, dict[str, Any]]) -> None:
        self._params = params
        self.mutations: list[tuple[str, str, int, dict[str, Any]]] = []
        self.paused: list[str] = []

    def params(self, run_id: str) -> dict[str, Any]:
        return self._params[run_id]

    def mutate(self, run_id: str, donor: str, step: int, params: dict[str, Any]) -> dict[str, Any]:
        self.mutations.append((run_id, donor, step, params))
        return {"id": run_id, "mutation": {"params": params}}

    def note_taken(self, run_id: str, result: dict[str, Any]) -> None:
        assert result[STEP] > 0

    def pause(self, run_id: str) -> None:
        self.paused.append(run_id)


class Trial:
    """Enough of Tune's."""

    def __init__(self, number: int) -> None:
        self.trial_id = self.experiment_tag = f"t{number}"
        self.config: dict[str, Any] = {"order": {"id": f"s-{number:04d}"}}
        self.status = "RUNNING"
        self.last_result: dict[str, Any] = {}
        self.run_metadata = SimpleNamespace(
            checkpoint_manager=SimpleNamespace(checkpoint_config=SimpleNamespace(num_to_keep=None))
        )

    def is_finished(self) -> bool:
        return False

    def set_experiment_tag(self, tag: str) -> None:
        self.experiment_tag = tag

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config


class Controller:
    """Enough of Tune's."""

    def __init__(self, trials: list[Trial]) -> None:
        self._trials = trials

    def get_trials(self) -> list[Trial]:
        return self._trials

    def pause_trial(self, trial: Trial, should_checkpoint: bool) -> None:
        trial.status = "PAUSED"

    def _schedule_trial_save(self, trial: Trial, result: dict[str, Any]) -> object:
        return SimpleNamespace()


def train(spec: SweepSpec, params: list[dict[str, Any]], evaluations: int) -> tuple[FakeTrialTable, dict[str, list[str]]]:
    """Let trials report so often, the first the best; what was noted, and Tune's decisions by the run."""
    trials = [Trial(number) for number in range(len(params))]
    trial_table = FakeTrialTable({trial.config["order"]["id"]: values for trial, values in zip(trials, params, strict=True)})
    population, controller = Population(spec, trial_table, len(trials)), Controller(trials)
    population.set_search_properties("val_accuracy", "max")
    decisions = defaultdict(list)
    for trial in trials:
        population.on_trial_add(controller, trial)
    for evaluation in range(1, evaluations + 1):
        for number, trial in enumerate(trials):
            trial.status = "RUNNING"
            result = {EVALUATION: evaluation, STEP: 100 * evaluation, "val_accuracy": 1 - number / 10}
            decisions[trial.config["order"]["id"]].append(population.on_trial_result(controller, trial, result))
            trial.last_result = result
    return trial_table, decisions


def test_the_worst_take_over_from_the_best_each_time_the_grace_is_over() -> None:
    spec = sweep({"optimizer.learning_rate": {"loguniform": [1e-5, 1]}}, grace_epochs=2)
    trial_table, decisions = train(spec, [{"optimizer.learning_rate": 10.0**-n} for n in range(1, 9)], 4)
    assert {run_id for run_id, *_ in trial_table.mutations} >= {"s-0007"}
    assert {donor for _, donor, *_ in trial_table.mutations} <= {"s-0000", "s-0001"}
    assert {step for _, _, step, _ in trial_table.mutations} <= {200, 400}
    assert decisions["s-0007"][1] == "NOOP"
    assert all(told[0] == told[2] == "CONTINUE" for told in decisions.values())
    assert set(trial_table.paused) >= {"s-0007"}
    assert "s-0000" not in {run_id for run_id, *_ in trial_table.mutations}


def test_a_trial_keeps_its_own_order_and_gets_the_others_values_changed_a_little() -> None:
    spec = sweep({"optimizer.learning_rate": {"loguniform": [1e-5, 1]}}, resample=0)
    trial_table, _ = train(spec, [{"optimizer.learning_rate": 0.1}, {"optimizer.learning_rate": 1e-5}], 1)
    ((run_id, donor, step, params),) = trial_table.mutations
    assert (run_id, donor, step) == ("s-0001", "s-0000", 100)
    assert params["optimizer.learning_rate"] in (pytest.approx(0.08), pytest.approx(0.12))


@pytest.mark.parametrize("resample", [0, 1])
def test_values_stay_within_what_the_space_says(resample: float) -> None:
    first = {
        "optimizer.learning_rate": 0.019,
        "optimizer.weight_decay": 0.11,
        "optimizer.learning_rate.warmup_steps": 5,
        "label_smoothing": 0.0,
    }
    spec = sweep({key: value for key, value in RANGES.items() if key != "optimizer.learning_rate"}, resample=resample)
    rates = sweep({"optimizer.learning_rate": RANGES["optimizer.learning_rate"]}, resample=resample)
    found = []
    for _ in range(30):
        for each in (spec, rates):
            trial_table, _ = train(each, [{key: first[key] for key in each.space}] * 2, 1)
            found.append(trial_table.mutations[0][3])
    values = {key: {params[key] for params in found if key in params} for key in RANGES}
    assert all(0.01 <= rate <= 0.02 for rate in values["optimizer.learning_rate"])
    assert all(0.1 <= decay <= 0.2 for decay in values["optimizer.weight_decay"])
    assert values["optimizer.learning_rate.warmup_steps"] <= {3, 4, 5}
    assert all(type(value) is int for value in values["optimizer.learning_rate.warmup_steps"])
    # Without a new draw a listed value becomes its neighbour by size.
    assert values["label_smoothing"] <= ({0.0, 0.1, 0.2} if resample else {0.0, 0.1})


@pytest.mark.parametrize(("parallel", "begun", "decision"), [(1, True, "PAUSE"), (2, True, "CONTINUE"), (2, False, "PAUSE")])
def test_a_trial_pauses_while_another_one_waits_for_its_turn_but_not_where_there_is_room(
    parallel: int, begun: bool, decision: str
) -> None:
    spec = sweep({"optimizer.learning_rate": {"loguniform": [1e-5, 1]}})
    trials = [Trial(0), Trial(1)]
    trial_table = FakeTrialTable({f"s-{number:04d}": {"optimizer.learning_rate": 0.1} for number in range(2)})
    population, controller = Population(spec, trial_table, parallel), Controller(trials)
    population.set_search_properties("val_accuracy", "max")
    for trial in trials:
        population.on_trial_add(controller, trial)
    result = {EVALUATION: 1, STEP: 10, "val_accuracy": 0.5}
    if begun:
        population.on_trial_result(controller, trials[1], {**result, "val_accuracy": 0.4})
    trials[1].status = "PENDING"
    assert population.on_trial_result(controller, trials[0], result) == decision
    assert trial_table.paused == (["s-0000"] if decision == "PAUSE" else [])


def test_the_one_that_is_taken_over_from_has_its_turn_too() -> None:
    spec = sweep({"optimizer.learning_rate": {"loguniform": [1e-5, 1]}}, quantile=0.5)
    trials = [Trial(0), Trial(1)]
    trial_table = FakeTrialTable({f"s-{number:04d}": {"optimizer.learning_rate": 0.1} for number in range(2)})
    population, controller = Population(spec, trial_table, 1), Controller(trials)
    population.set_search_properties("val_accuracy", "max")
    for trial in trials:
        population.on_trial_add(controller, trial)
        trial.status = "PENDING"
    seen = dict.fromkeys(trials, 0)
    for _ in range(12):
        trial = population.choose_trial_to_run(controller)
        trial.status = "RUNNING"
        seen[trial] = evaluation = seen[trial] + 1
        trial.last_result = {EVALUATION: evaluation, STEP: 10 * evaluation, "val_accuracy": 0.5 + trials.index(trial) / 10}
        population.on_trial_result(controller, trial, trial.last_result)
        trial.status = "PAUSED"
    assert {donor for _, donor, _, _ in trial_table.mutations} == {"s-0001"}
    assert min(seen.values()) >= 5
