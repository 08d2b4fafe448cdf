"""One trial of a sweep in a process of Ray Tune: a run that is driven here, warm for the next one, reported to Tune as it goes."""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from queue import Empty, Queue
from typing import Any

from jobs.liveness import tick
from jobs.sweeps.exploit import take_over
from jobs.sweeps.trial_order import TrialOrder
from jobs.sweeps.trial_run import EVALUATION, LOOK_SECONDS, MUTATION, OVER, STEP, TAKEN
from jobs.training.hooks import Hooks
from jobs.worker_groups.base import Group
from jobs.worker_groups.capacity import DRIVER_CPUS
from jobs.worker_groups.in_process import InProcess
from jobs.worker_groups.joined import JoinedCluster
from jobs.worker_groups.ray_train import WorkerGroup
from service.errors import DelaylineError, StoreError
from service.records.cancel_requests import SWEEP
from service.records.run_record import Document
from service.records.schemas import RunState
from service.settings import Settings
from service.specs.train import TrainSpec

SAVE_PATIENCE = 60.0
"""For the checkpoint of an evaluation, which is on its way when the evaluation is reported (assumed: longer than a write takes)."""


class Trial:
    """Drives one run in a thread. With `by_evaluation` the run waits at each evaluation until Tune wants the next one."""

    def __init__(self, order: TrialOrder) -> None:
        (self._run,) = order.runs()
        self._order = order
        self._record = self._run.record
        self._spec = self._record.spec()
        self._error: DelaylineError | None = None
        self._rows: Queue[Document] = Queue()
        self._reported = 0
        self._waits = False
        self._taken: dict[str, int | None] = {}
        self._wanted = threading.Semaphore(0)
        self._stopped = threading.Event()
        self._has_taken = threading.Event()
        self._thread = threading.Thread(target=self._drive, name=order.id, daemon=True)
        self._thread.start()

    def reports(self) -> Iterator[dict[str, Any]]:
        """What Tune is given: each evaluation if wanted, then the end, `done`; raise InfrastructureFailure for a lost lease."""
        number = 0
        for row in self._evaluations() if self._order.by_evaluation else ():
            number = int(row["epoch"]) // self._spec.evaluate.every_epochs
            yield {self._order.metric: row[self._order.metric], EVALUATION: number, STEP: int(row["step"]), **self._taken}
        self._thread.join()
        if self._error is not None:
            raise self._error
        state = self._record.state()
        value = state.metrics.get(self._order.metric)
        found = {} if value is None or state.state == RunState.FAILED else {self._order.metric: value}
        # One that was stopped has not come as far as another evaluation.
        end = number + (state.state != RunState.CANCELLED)
        yield {**found, EVALUATION: end, OVER: True, **self._taken, "done": True}

    def stop(self) -> None:
        """Ask the run to save and stop, and wait for it."""
        # One that waits is stopped from here: a request in the store could be read by the process that trains the run next.
        waits = self._waits
        self._stopped.set()
        while self._thread.is_alive():
            self._wanted.release()
            if not waits and not self._record.cancel_requested():
                self._record.request_cancel(SWEEP)
            self._thread.join(LOOK_SECONDS)

    def wait_for_checkpoint(self) -> None:
        """Return once the checkpoint of what was reported last is in the store, or will not come."""
        end = time.monotonic() + SAVE_PATIENCE
        while self._thread.is_alive() and time.monotonic() < end:
            if any(checkpoint.step >= self._reported for checkpoint in self._record.checkpoints()):
                return
            time.sleep(LOOK_SECONDS)

    def _evaluations(self) -> Iterator[Document]:
        """The rows with the metric: those of earlier attempts if wanted, then those to come, until the run's end."""
        # Before it has taken over, a run still has rows that it gives up.
        self._has_taken.wait()
        for row in self._record.metric_rows() if self._order.from_history else ():
            if self._is_judged(row):
                self._reported = max(self._reported, int(row["step"]))
                yield row
        while self._thread.is_alive() or not self._rows.empty():
            if self._order.distributed:
                time.sleep(max(LOOK_SECONDS, self._record.store.look_seconds))
                rows = [row for row in self._record.metric_rows() if self._is_judged(row) and int(row["step"]) > self._reported]
            else:
                rows = self._handed_over()
            for row in rows:
                self._reported = int(row["step"])
                yield row
                # The next one is wanted: the training that waits continues.
                if not self._order.distributed:
                    self._wanted.release()

    def _handed_over(self) -> list[Document]:
        try:
            row = self._rows.get(timeout=LOOK_SECONDS)
        except Empty:
            return []
        if int(row["step"]) > self._reported:
            return [row]
        self._wanted.release()
        return []

    def _should_continue(self, row: Document) -> bool:
        """In the training's thread: hand an evaluation over, and wait until Tune has judged it."""
        if self._order.by_evaluation and self._is_judged(row) and not self._stopped.is_set():
            self._waits = True
            self._rows.put(row)
            while not self._wanted.acquire(timeout=max(LOOK_SECONDS, self._record.store.look_seconds)):
                tick()
                if self._asked_to_stop():
                    return False
            self._waits = self._stopped.is_set()
        return not self._stopped.is_set()

    def _asked_to_stop(self) -> bool:
        try:
            return self._record.cancel_requested()
        except StoreError:
            return False

    def _is_judged(self, row: Document) -> bool:
        """Whether it is an evaluation before the last, which comes with the trial's end and its test."""
        spec = self._spec
        last = row["epoch"] >= spec.epochs if spec.epochs is not None else row["step"] >= (spec.steps or 0)
        return self._order.metric in row and not last

    def _drive(self) -> None:
        try:
            if not self._order.over:
                self._error = self._run.drive(self._group, self._take_over)
        finally:
            self._has_taken.set()

    def _take_over(self) -> None:
        mutation = self._order.mutation
        if mutation is not None:
            self._taken = {MUTATION: mutation["number"], TAKEN: take_over(self._record, mutation)}
            self._spec = self._record.spec()
        self._has_taken.set()

    def _group(self, settings: Settings, spec: TrainSpec) -> AbstractContextManager[Group]:
        if not self._order.distributed:
            return InProcess(Hooks(self._should_continue))
        return WorkerGroup(JoinedCluster(settings, self._order.local), spec, spared_cpus=DRIVER_CPUS)
