"""What is due between two calls of the compiled function: rows, evaluations, checkpoints, the run's end."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from jobs.artifacts.checkpoints import Snapshot, jsonable
from jobs.artifacts.tensors import Tensors
from jobs.liveness import tick
from jobs.training.early_stopping import is_new_best, score_of, stop_reason
from jobs.training.intervals import Intervals
from jobs.training.recorder import Recorder
from jobs.training.state import LoopState, Sums
from jobs.training.steps_per_execution import StepsPerExecution
from service.errors import BadLoss
from service.records.run_record import Document
from service.specs.train import TrainSpec


class Trained(Protocol):
    """What the outer loop needs of what is trained."""

    @property
    def metric_names(self) -> tuple[str, ...]: ...

    def realised_model(self) -> keras.Model: ...

    @property
    def learning_rate(self) -> float: ...

    def copies(self) -> tuple[Tensors, Tensors, Tensors]: ...

    def averages(self) -> Tensors: ...

    def averaged(self) -> AbstractContextManager[bool]: ...


class Evaluates(Protocol):
    """Evaluates the validation examples."""

    def evaluate(self) -> dict[str, float]: ...


_JUDGED = {"val": "validation", "test": "test"}


def judged(judge: Evaluates, prefix: str, epoch: int, step: int) -> dict[str, float]:
    """What an evaluation finds, named `val_…` or `test_…`; raise BadLoss for a value that is not finite, on all workers alike."""
    found = {f"{prefix}_{name}": value for name, value in judge.evaluate().items()}
    for name, value in found.items():
        if not math.isfinite(value):
            raise BadLoss(
                f"The evaluation at step {step} (epoch {epoch}) found {name} {value}, though the training loss is finite: use a "
                "smaller learning rate, clip the gradients (optimizer.global_clipnorm=1), or look for values that are not finite "
                f"in the {_JUDGED[prefix]} examples."
            )
    return found


@dataclass(kw_only=True)
class OuterLoop:
    """One run from step to step. `callbacks` are called with the same logs on every worker."""

    spec: TrainSpec
    intervals: Intervals
    replica: Trained
    pace: StepsPerExecution
    validation: Evaluates | None
    recorder: Recorder
    callbacks: keras.callbacks.CallbackList
    callback_states: Callable[[], tuple[Document, Tensors]]
    """What a checkpoint keeps of the callbacks: JSON, and large arrays."""
    state: LoopState
    agreement: Callable[[int], None] = lambda step: None
    """Raises UserFailure, on all workers alike, where they hold different models: called before an evaluation and a checkpoint."""
    _saved: int | None = None
    _agreed: int | None = None

    def begin(self) -> bool:
        """Whether there is a step to do; early stopping may have ended the run at the checkpoint that it resumes from."""
        if self.state.ended or self._stop_reason():
            return False
        self._begin_epoch()
        return self.state.step < self.intervals.total

    def add_sums(self, sums: NDArray[np.float32]) -> None:
        """Add the sums of steps that were done, [steps, 1 + metrics]; raise BadLoss."""
        bad = ~np.isfinite(sums[:, 0])
        if bad.any():
            first = int(np.argmax(bad))
            raise BadLoss(
                f"The loss became {sums[first, 0]} at step {self.state.step + first + 1}: use a smaller learning rate, "
                "clip the gradients (optimizer.global_clipnorm=1), or look for a logarithm or a division in your model."
            )
        for totals in (self.state.since_row, self.state.since_epoch):
            totals.add(sums.astype(np.float64))
        self.state.step += len(sums)
        tick()

    def at_step(self) -> bool:
        """Do what is due at the step that was reached; return whether the run ends here before its last step."""
        state, due = self.state, self.intervals
        rate = self.pace.steps_per_second
        began = time.monotonic()
        evaluated = self._evaluate() if due.evaluation_due(state.step) else {}
        state.spent.evaluation += time.monotonic() - began
        if due.row_due(state.step):
            self._write_row(evaluated, rate)
        self._report()
        stop = due.ends_epoch(state.step) and self._end_epoch(evaluated)
        if evaluated and (why := self._stop_reason()):
            self.recorder.event("early stop", f"{why}: the run ends at step {state.step}", step=state.step)
            stop = True
        state.ended = stop
        if stop or due.checkpoint_due(state.step) or (evaluated and self._is_best()):
            self._save(scored=bool(evaluated))
        if not stop:
            self._begin_epoch()
        return stop

    def _evaluate(self) -> dict[str, float]:
        if self.validation is None:
            return {}
        self.pace.pause()
        self._agree()
        with self.replica.averaged():
            return judged(self.validation, "val", self.intervals.epoch(self.state.step), self.state.step)

    def _agree(self) -> None:
        if self._agreed != self.state.step:
            self.agreement(self.state.step)
            self._agreed = self.state.step

    def _is_best(self) -> bool:
        """Whether the run would end with the weights of now, which have to be kept."""
        policy = self.spec.early_stopping
        return policy is not None and policy.restore_best and is_new_best(self.state.history, policy)

    def _begin_epoch(self) -> None:
        if self.intervals.begins_epoch(self.state.step):
            self.callbacks.on_epoch_begin(self.state.step // self.intervals.steps_per_epoch)

    def _end_epoch(self, evaluated: dict[str, float]) -> bool:
        logs = {**self.epoch_means(), **evaluated}
        self.state.since_epoch.clear()
        model = self.replica.realised_model()
        self.callbacks.on_epoch_end(self.intervals.epoch(self.state.step) - 1, logs)
        return bool(getattr(model, "stop_training", False))

    def _stop_reason(self) -> str | None:
        policy = self.spec.early_stopping
        return None if policy is None else stop_reason(self.state.history, policy)

    def epoch_means(self) -> dict[str, float]:
        """The means of loss and metrics over the epoch so far."""
        return self._means(self.state.since_epoch)

    def _means(self, sums: Sums) -> dict[str, float]:
        examples = max(1, sums.steps) * self.spec.batch
        return {name: value / examples for name, value in zip(("loss", *self.replica.metric_names), sums.values, strict=True)}

    def _write_row(self, evaluated: dict[str, float], steps_per_second: float) -> None:
        state = self.state
        row = {
            "epoch": self.intervals.epoch(state.step),
            "step": state.step,
            **self._means(state.since_row),
            **evaluated,
            "learning_rate": self.replica.learning_rate,
            "examples_per_second": round(steps_per_second * self.spec.batch, 1),
            "time": time.time(),
        }
        state.history.append(jsonable(row))
        state.since_row.clear()
        self.recorder.row(state.history[-1])

    def _report(self) -> None:
        state, rate = self.state, self.pace.steps_per_second
        latest = self._means(state.since_row) if state.since_row.steps else {}
        self.recorder.update(
            step=state.step,
            epoch=self.intervals.epoch(state.step),
            metrics={**latest_metrics(state.history), **latest},
            examples_per_second=round(rate * self.spec.batch, 1),
            eta_seconds=round((self.intervals.total - state.step) / rate, 1) if rate else None,
            timing=state.timing(),
        )

    def stop(self) -> None:
        """Save a checkpoint to resume from, unless this step has one."""
        if self._saved != self.state.step:
            self._save(scored=False)

    def _save(self, scored: bool) -> None:
        began = time.monotonic()
        self._agree()
        self.recorder.save(lambda: self.snapshot(scored))
        self.state.spent.checkpoint += time.monotonic() - began
        self._saved = self.state.step
        self.pace.pause()

    def snapshot(self, scored: bool) -> Snapshot:
        """Copy everything that the run needs to resume from here; `scored`: its newest row has an evaluation."""
        state = self.state
        model, optimizer, space = self.replica.copies()
        callbacks, arrays = self.callback_states()
        return Snapshot(
            step=state.step,
            epoch=self.intervals.epoch(state.step),
            model=model,
            optimizer=optimizer,
            space=space,
            averaged=self.replica.averages(),
            history=list(state.history),
            position=jsonable({**state.position(), "callbacks": callbacks}),
            callbacks=arrays,
            score=score_of(state.history[-1], self.spec.early_stopping) if scored else None,
        )


_NOT_METRICS = {"epoch", "step", "time", "examples_per_second", "learning_rate"}


def latest_metrics(history: list[Document]) -> dict[str, float]:
    """The newest value of each metric in the rows."""
    rows = [{name: value for name, value in row.items() if name not in _NOT_METRICS} for row in history[-1:]]
    evaluated = next((row for row in reversed(history) if any(name.startswith("val_") for name in row)), {})
    return {**{name: value for name, value in evaluated.items() if name.startswith("val_")}, **(rows[0] if rows else {})}
