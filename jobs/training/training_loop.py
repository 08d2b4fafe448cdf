"""The steps of one run in one worker: calls of the compiled function, until the run ends or is asked to stop."""

import time
from dataclasses import dataclass, field

import numpy as np

from jobs.liveness import longer
from jobs.training.batches import BatchFeeder
from jobs.training.outer_loop import OuterLoop
from jobs.training.replica import Replica
from service.records.schemas import RunState


@dataclass(kw_only=True)
class TrainingLoop:
    """The calls of one run in one worker, and its outer loop, which does what is due between them."""

    outer: OuterLoop
    replica: Replica
    feeder: BatchFeeder
    _counts: set[int] = field(default_factory=set)
    """Of steps a call, so far."""

    def run(self) -> RunState:
        """Train to the end; return `succeeded`, or `cancelled` when asked to stop; the last step is saved."""
        outer, stopped = self.outer, False
        if not outer.begin():
            return RunState.SUCCEEDED
        count = outer.intervals.steps_until_due(outer.state.step, outer.pace.most)
        while count:
            stopped, count = self._call(count)
            if outer.at_step():
                return RunState.SUCCEEDED
            if stopped and count:
                outer.stop()
                return RunState.CANCELLED
        return RunState.SUCCEEDED

    def _call(self, count: int) -> tuple[bool, int]:
        """Do `count` steps in one call; return whether a worker was asked to stop, and the size of the next call."""
        outer, state, pace = self.outer, self.outer.state, self.outer.pace
        asked, traces = time.monotonic(), self.replica.traces
        chunk = self.feeder.take(state.step, count)
        state.spent.input += time.monotonic() - asked
        following = outer.intervals.steps_until_due(state.step + count, pace.most)
        self.feeder.prepare(state.step + count, following)
        if pace.single_steps:
            outer.callbacks.on_train_batch_begin(state.step % outer.intervals.steps_per_epoch)
        flags = np.array([outer.recorder.stop_requested(), pace.proposed], np.float32)
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
        outer.add_sums(result.sums)
        pace.accept(float(result.flags[1]))
        pace.measured(seconds, count)
        pace.mark(state.step)
        if pace.single_steps:
            self.replica.realised_model()
            batch = (state.step - 1) % outer.intervals.steps_per_epoch
            outer.callbacks.on_train_batch_end(batch, outer.epoch_means())
        return bool(result.flags[0] > 0), following
