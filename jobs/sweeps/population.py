"""Population based training (Jaderberg et al. 2017) by Ray Tune: which trial copies which, and with what values it then trains."""

import itertools
from types import SimpleNamespace
from typing import Any, Protocol

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

from jobs.sweeps.trial_run import EVALUATION, STEP
from service.records.run_record import Document
from service.specs.sweep import Parameter, SweepSpec

PARAMS = "params"
"""The key of a trial's config with the values that vary, beside its order."""


class Members(Protocol):
    """The trials as the sweep's driver knows them, by the ids of their runs."""

    def params(self, run_id: str) -> Document:
        """The values with which a trial trains now."""

    def mutate(self, run_id: str, donor: str, step: int, params: Document) -> Document:
        """Note that a trial copies another one's weights of `step` and trains on with `params`, or what is allowed of them; its order."""

    def note_taken(self, run_id: str, result: Document) -> None:
        """Note which checkpoint a trial took over, as it reports."""

    def pause(self, run_id: str) -> None:
        """Let a trial save and give its process to another one."""


class Population(PopulationBasedTraining):
    """Tune's scheduler, asynchronous: a trial is judged when it was evaluated, by the others' latest evaluations.

    What a trial resumes from is in the order in its config: the checkpoints are in the store, and Tune's are stand-ins.
    """

    def __init__(self, sweep: SweepSpec, members: Members, parallel: int) -> None:
        policy = sweep.scheduler
        self._members = members
        self._parallel = parallel
        self._results = itertools.count(1)
        self._latest: dict[Any, int] = {}
        """By trial, the number of its latest result among all."""
        self._space = {key: parameter for key, parameter in sweep.space.items() if parameter.expression is None}
        super().__init__(
            time_attr=EVALUATION,
            perturbation_interval=policy.grace_epochs,
            hyperparam_mutations={PARAMS: {key: _source(parameter) for key, parameter in self._space.items()}},
            quantile_fraction=policy.quantile,
            resample_probability=policy.resample,
            custom_explore_fn=self._within_ranges,
            log_config=False,
        )

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add a trial. Tune refuses searchers beside PBT because most learn from configs; the queue hands out trials alone."""
        trial.config[PARAMS] = self._members.params(trial.config["order"]["id"])
        super().on_trial_add(SimpleNamespace(search_alg=None), trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Evaluates a trial. One that pauses still holds its run, which another process may be the next to train.

        Tune lets a trial pause whenever another one waits. Where there is room for all that costs a restart for nothing, but
        before all have begun: one that runs ahead would be compared with nobody.
        """
        self._latest[trial] = next(self._results)
        self._members.note_taken(trial.config["order"]["id"], result)
        decision: str = super().on_trial_result(tune_controller, trial, result)
        left = [each for each in tune_controller.get_trials() if not each.is_finished()]
        begun = all(self._trial_state[each].last_score is not None for each in left)
        if decision == TrialScheduler.PAUSE and begun and len(left) <= self._parallel:
            return str(TrialScheduler.CONTINUE)
        if decision in (TrialScheduler.PAUSE, TrialScheduler.NOOP):
            self._members.pause(trial.config["order"]["id"])
        return decision

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Of the trials that are furthest behind, the one that has waited longest.

        Tune takes the first of them: one that copies another, is judged bad and copies it again would be the next each time, and
        the one that it copies would never have its turn.
        """
        waiting = [each for each in tune_controller.get_trials() if each.status in (Trial.PENDING, Trial.PAUSED)]
        return min(waiting, key=lambda each: (self._trial_state[each].last_train_time, self._latest.get(each, 0)), default=None)

    def _checkpoint_or_exploit(
        self, trial: Any, tune_controller: Any, upper_quantile: list[Any], lower_quantile: list[Any]
    ) -> None:
        """Tune knows of the checkpoints alone that it asked for; here every trial that was evaluated has one in the store."""
        for state in (self._trial_state[each] for each in upper_quantile):
            state.last_checkpoint = state.last_checkpoint or tune.Checkpoint("/in-the-store")
        super()._checkpoint_or_exploit(trial, tune_controller, upper_quantile, lower_quantile)

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        config, operations = super()._get_new_config(trial, trial_to_clone)
        step = self._trial_state[trial_to_clone].last_result[STEP]
        donor = trial_to_clone.config["order"]["id"]
        order = self._members.mutate(trial.config["order"]["id"], donor, step, config[PARAMS])
        return {"order": order, PARAMS: order["mutation"][PARAMS]}, operations

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its experiment, which nobody reads: the sweep keeps its own table of trials."""
        return {}

    def _within_ranges(self, config: dict[str, Any]) -> dict[str, Any]:
        """Tune's factors lead out of a range in the end."""
        values = {key: _within(parameter, config[PARAMS][key]) for key, parameter in self._space.items()}
        return {**config, PARAMS: {**config[PARAMS], **values}}


def _source(parameter: Parameter) -> Any:
    """What Tune draws a value anew from; of a list it takes the neighbours."""
    if parameter.uniform is not None:
        return tune.uniform(*parameter.uniform)
    if parameter.loguniform is not None:
        return tune.loguniform(*parameter.loguniform)
    if parameter.integers is not None:
        low, high = parameter.integers
        return tune.randint(low, high + 1)
    # Neighbours by size, whatever the order in which they were written.
    return sorted(parameter.grid or parameter.choice or ())


def _within(parameter: Parameter, value: Any) -> Any:
    ends = parameter.uniform or parameter.loguniform
    if ends is not None:
        return min(max(float(value), ends[0]), ends[1])
    if parameter.integers is not None:
        return min(max(int(value), parameter.integers[0]), parameter.integers[1])
    return value
