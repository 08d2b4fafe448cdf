"""The steps of one run inside one worker: train, evaluate, save, say what happens, stop when asked."""

import time
from dataclasses import dataclass, field

import numpy as np

from jobs.liveness import longer
from jobs.training.batches import BatchFeeder
from jobs.training.outer_loop import OuterLoop
from jobs.training.replica import Replica


@dataclass(kw_only=True)
class TrainingLoop(OuterLoop):
    """One run in one worker: its outer loop, and the steps between."""

    replica: Replica
    feeder: BatchFeeder
    _counts: set[int] = field(default_factory=set)
    """Of steps a call, so far."""

    def run(self) -> str:
        """Train to the end; return `succeeded`, or `cancelled` when asked to stop; the last step is saved."""
        state, stopped = self.state, False
        if not self.begin():
            return "succeeded"
        count = self.intervals.steps_until_due(state.step, self.pace.most)
        while count:
            stopped, count = self._call(count)
            if self.at_step():
                return "succeeded"
            if stopped and count:
                self.stop()
                return "cancelled"
        return "succeeded"

    def _call(self, count: int) -> tuple[bool, int]:
        """Do `count` steps in one call; return whether a worker was asked to stop, and the size of the next call."""
        state, pace = self.state, self.pace
        asked, traces = time.monotonic(), self.replica.traces
        chunk = self.feeder.take(state.step, count)
        state.spent.input += time.monotonic() - asked
        following = self.intervals.steps_until_due(state.step + count, pace.most)
        self.feeder.prepare(state.step + count, following)
        if pace.single_steps:
            self.callbacks.on_train_batch_begin(state.step % self.intervals.steps_per_epoch)
        flags = np.array([self.recorder.stop_requested(), pace.proposed], np.float32)
        if count not in self._counts:
            # The function may be built for it.
            self._counts.add(count)
            longer()
        began = time.monotonic()
        result = self.replica.train(chunk.features, chunk.labels, flags)
        seconds = time.monotonic() - began
        state.seconds += seconds
        if self.replica.traces > traces:
            state.spent.building += seconds
            state.spent.building_steps += count
        self.add_sums(result.sums)
        pace.accept(float(result.flags[1]))
        pace.measured(seconds, count)
        pace.mark(state.step)
        if pace.single_steps:
            self.replica.settle()
            batch = (state.step - 1) % self.intervals.steps_per_epoch
            self.callbacks.on_train_batch_end(batch, self._means(state.since_epoch))
        return bool(result.flags[0] > 0), following
