"""What rank 0 writes to the store while a run trains: metrics, progress, events, checkpoints, TensorBoard files."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from jobs.artifacts.checkpoints import CheckpointStore, CheckpointWriter, Snapshot
from jobs.artifacts.progress import ProgressReporter
from jobs.artifacts.tensorboard import TensorBoardFiles
from jobs.liveness import idle_seconds
from jobs.repeating import Repeating
from jobs.training.after_training import TRAINED
from jobs.training.hooks import Hooks
from jobs.training.intervals import Intervals
from jobs.training.state import LoopState
from service.errors import StoreError
from service.records.metrics import Segment
from service.records.remarks import REMARK
from service.records.run_record import Document, RunRecord
from service.records.schemas import RunState

IDLE_SECONDS = 10.0
"""Between looks at how long there was no step, by this process's own clock (assumed: a person who watches begins to wonder)."""
CHECKPOINT_LIMIT = 900.0
"""Seconds to wait for the last checkpoint (assumed: longer than a store may be away)."""


class StoreRecorder:
    """Rank 0: metrics, progress, events, checkpoints and TensorBoard files go to the store from here."""

    def __init__(
        self,
        record: RunRecord,
        attempt: int,
        checkpoints: CheckpointStore,
        members: list[Document],
        hooks: Hooks,
        trained: Document | None = None,
    ) -> None:
        """`members`: rank, host and process of each worker; `trained`: what the progress document said of a run that lost its analysis."""
        self._hooks = hooks
        self._checkpoints = checkpoints
        self._reporter = ProgressReporter(record, attempt, {**(trained or {"phase": "starting"}), "workers": members})
        checkpoints.sealed = self._reporter.metrics.reference
        self._writer = CheckpointWriter(checkpoints, self._saved)
        self._cancel = CancelWatch(record)
        self._idle = Repeating("idle", IDLE_SECONDS, self._tell_idle)
        self._tensorboard = TensorBoardFiles(record, attempt)
        self._row: Document | None = None
        self._waited = 0.0
        self._steps = 0

    def row(self, row: Document) -> None:
        """Keep a row of metrics."""
        self._reporter.check()
        self._reporter.add_row(row)
        self._tensorboard.add(row)
        self._row = row
        self._hooks.tell(
            " ".join(f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in row.items())
        )

    def update(self, **values: Any) -> None:
        """Change values of the progress document."""
        self._reporter.update(**values)

    def event(self, event: str, message: str, **details: Any) -> None:
        """Note what happened."""
        self._hooks.tell(f"{event}: {message}")
        self._reporter.event(event, message, **details)

    def save(self, take: Callable[[], Snapshot]) -> None:
        """Copy the run's variables, and write them in the background."""
        self._reporter.check()
        began = time.monotonic()
        self._writer.submit(take)
        self._waited += time.monotonic() - began

    def still_own(self) -> None:
        """Raise LeaseLost when another attempt has taken the run over."""
        self._checkpoints.fence()
        self._reporter.confirm()

    def stop_requested(self) -> bool:
        """Whether somebody cancelled the run, or it is to stop at its newest row."""
        row, self._row = self._row, None
        if row is not None and not self._hooks.should_continue(row):
            self._cancel.ask()
        return self._cancel.asked

    def resume(self, step: int, history: list[Document], sealed: Sequence[Segment]) -> None:
        """Begin at `step` with the rows so far, the first of them in sealed parts; what the store holds of later steps is deleted."""
        self._checkpoints.adopt(step)
        self._reporter.restart(history, sealed)
        self._tensorboard.restart(history, step)

    def started(self, summary: str, intervals: Intervals, step: int) -> None:
        """Say that the first step is about to be done."""
        self._hooks.tell(summary)
        self._steps = intervals.total
        self.update(
            phase="training",
            model_summary=summary,
            step=step,
            steps=intervals.total,
            epoch=intervals.epoch(step),
            epochs=intervals.epochs,
        )
        self._reporter.event("training", f"training begins at step {step} of {intervals.total}", step=step)

    def remarks(self, look: Callable[[], list[str]]) -> None:
        """Write what `look` finds in a model before its first step, one event each; nothing where it fails."""
        try:
            found = look()
        except Exception as error:
            self._hooks.tell(f"the model is not looked at: {type(error).__name__}: {error}"[:500])
            return
        for message in found:
            self.event(REMARK, message)

    def graph(self, draw: Callable[[], bytes]) -> None:
        """Write the model's graph; a model that cannot be drawn has none."""
        try:
            self._tensorboard.add_graph(draw())
        except Exception as error:
            self._hooks.tell(f"the model's graph is not drawn: {type(error).__name__}: {error}"[:500])

    def wait_for_checkpoints(self) -> None:
        """Return once the last checkpoint is in the store."""
        self._writer.close(CHECKPOINT_LIMIT)

    def trained(self, metrics: Document, state: LoopState) -> None:
        """Write to the store that the training is done: what comes after it may be lost."""
        self.update(phase=TRAINED, step=state.step, metrics=metrics, eta_seconds=0.0, timing=self._timing(state))
        self._reporter.settle()

    def _timing(self, state: LoopState) -> Document:
        return {**state.timing(), "checkpoint_wait_seconds": round(self._waited, 3)}

    def ended(self, outcome: RunState, metrics: Document, state: LoopState) -> None:
        """Write how the attempt ended."""
        self._tensorboard.finish(metrics, state.step)
        self.update(phase=outcome, step=state.step, metrics=metrics, eta_seconds=0.0, timing=self._timing(state))

    def close(self) -> None:
        """Write the rest."""
        self._cancel.close()
        self._idle.stop()
        self._tensorboard.close()
        self._reporter.close()

    def _tell_idle(self) -> None:
        """Write for how long there was no tick, from IDLE_SECONDS on: other ranks see by it that this one lives."""
        idle = idle_seconds()
        self._reporter.update(idle_seconds=round(idle) if idle >= IDLE_SECONDS else None)

    def _saved(self, snapshot: Snapshot, seconds: float) -> None:
        self._reporter.event(
            "checkpoint", f"checkpoint at step {snapshot.step} saved", step=snapshot.step, seconds=round(seconds, 3)
        )
        self._tensorboard.add_weights(snapshot.step, snapshot.model, self._steps)
        self._tensorboard.ship()


class CancelWatch:
    """Looks every two seconds, in a folder more often, whether somebody asked the run to stop."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._asked = threading.Event()
        self._looks = Repeating("cancel", record.store.look_seconds, self._look)

    @property
    def asked(self) -> bool:
        """Whether somebody did."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Ask from within this process."""
        self._asked.set()

    def close(self) -> None:
        """Look no more."""
        self._looks.stop()

    def _look(self) -> bool:
        # A store that is away cannot carry a request either.
        with contextlib.suppress(StoreError):
            if self._record.workers_are_to_stop():
                self._asked.set()
        return self._asked.is_set()
