"""At which steps something is due: rows of metrics, epochs' ends, evaluations, checkpoints, the end. Pure arithmetic."""

import math
from dataclasses import dataclass

from service.specs.train import TrainSpec


@dataclass(frozen=True)
class Intervals:
    """The steps of a run are numbered 1 to `total`; `step` below is how many are done."""

    spec: TrainSpec
    steps_per_epoch: int

    @property
    def total(self) -> int:
        return self.spec.steps or (self.spec.epochs or 1) * self.steps_per_epoch

    @property
    def epochs(self) -> int:
        """How many epochs the run begins."""
        return self.epoch(self.total)

    def epoch(self, step: int) -> int:
        """The number, from 1, of the epoch that the last done step belongs to; 0 before the first."""
        return math.ceil(step / self.steps_per_epoch)

    def begins_epoch(self, step: int) -> bool:
        """Whether the next step is the first of an epoch."""
        return step % self.steps_per_epoch == 0 and step < self.total

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch is over, or the run in the middle of one."""
        return step % self.steps_per_epoch == 0 or step == self.total

    def row_due(self, step: int) -> bool:
        return step % self.spec.log_every == 0 or self.ends_epoch(step)

    def evaluation_due(self, step: int) -> bool:
        whole = step % self.steps_per_epoch == 0 and self.epoch(step) % self.spec.evaluate.every_epochs == 0
        return whole or step == self.total

    def checkpoint_due(self, step: int) -> bool:
        policy = self.spec.checkpoint
        if step == self.total:
            return True
        if policy.every_steps is not None:
            return step % policy.every_steps == 0
        return step % self.steps_per_epoch == 0 and self.epoch(step) % (policy.every_epochs or 1) == 0

    def steps_until_due(self, step: int, most: int) -> int:
        """How many steps can be done in one call before something is due, at most `most`; 0 at the end."""
        if step >= self.total:
            return 0
        intervals = [self.steps_per_epoch, self.spec.log_every, self.spec.checkpoint.every_steps or self.total]
        ends = [(step // interval + 1) * interval for interval in intervals]
        return min(self.total - step, min(ends) - step, max(1, most))
