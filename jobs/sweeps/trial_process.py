"""What Ray Tune calls: a process that is kept warm for trial after trial."""

from collections.abc import Iterator
from typing import Any

from ray import tune

from jobs.sweeps.group_trial import GroupTrial
from jobs.sweeps.trial import Trial
from jobs.sweeps.trial_order import TrialOrder
from jobs.worker.cleanup import release_graphs
from jobs.worker_groups.tune_insides import TrainingResult


class TrialProcess(tune.Trainable):
    """What Ray Tune calls. It is kept for trial after trial: TensorFlow is imported once."""

    _order: TrialOrder
    _trial: "Trial | GroupTrial | None" = None
    _reports: Iterator[dict[str, Any]]

    def setup(self, config: dict[str, Any]) -> None:
        """Take the order of the first trial."""
        self._order = TrialOrder(**config["order"])
        self._order.enter_environment()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the order of another trial."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next report of the trial, which begins with the first.

        Not before: Tune gives a trial whose process is slow to start to one that is free sooner, and ends the slow one.
        """
        if self._trial is None:
            self._trial = GroupTrial(self._order.runs()) if self._order.others else Trial(self._order)
            self._reports = self._trial.reports()
        return next(self._reports)

    def save(self, checkpoint_dir: str | None = None) -> TrainingResult:
        """Wait for the run's checkpoint of what was reported last. Tune gets none: it keeps files where other nodes see none."""
        if isinstance(self._trial, Trial):
            self._trial.wait_for_checkpoint()
        return TrainingResult(tune.Checkpoint(self.logdir), dict(self._last_result or {}))

    def restore(self, checkpoint_path: Any) -> None:
        """Nothing: a run resumes from its own checkpoint."""

    def cleanup(self) -> None:
        """Let a trial that is not at its end save and stop."""
        if self._trial is not None:
            self._trial.stop()
        self._trial = None
        release_graphs()
