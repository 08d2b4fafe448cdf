"""One member of a group: a run with its own data, outer loop, recorder and log, whose variables stand in the group's stack."""

import contextlib
import os
import socket
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import keras

from jobs.artifacts.checkpoints import CheckpointStore
from jobs.artifacts.logs import LOG, LogShipper
from jobs.artifacts.tensors import Tensors
from jobs.log_lines import timed
from jobs.models.registry import make_model
from jobs.target_space.make import make_space
from jobs.training.batches import BatchFeeder
from jobs.training.callback_state import CallbackStates
from jobs.training.context import WorkerContext
from jobs.training.examples import Examples, load_examples
from jobs.training.hooks import Hooks
from jobs.training.outer_loop import Evaluates, OuterLoop
from jobs.training.place import Place
from jobs.training.recorder import Recorder
from jobs.training.restore import start_or_resume
from jobs.training.state import LoopState
from jobs.training.steps_per_execution import StepsPerExecution
from jobs.training.store_recorder import StoreRecorder
from jobs.training.variables import assign_variables, copy_model, copy_variables
from jobs.vectorized.member_attempt import MemberAttempt
from jobs.vectorized.stack import Held, Stack
from jobs.worker.config import fence_of
from jobs.worker.failures import report_failure
from jobs.worker.peers import identity
from service.errors import StoreError
from service.records import user_package
from service.records.run_record import RunRecord
from service.scratch import ScratchFolder
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage.base import Store


class MemberLog:
    """A member's own log lines, shipped to the store as a worker's log."""

    def __init__(self, store: Store, key: Callable[[int], str]) -> None:
        self._folder = ScratchFolder("worker")
        self.path = Path(self._folder.name, LOG)
        self._file = self.path.open("a", buffering=1, encoding="utf-8")
        self._shipper = LogShipper(store, key, self.path)

    def tell(self, line: str) -> None:
        """Write a line."""
        self._file.write(f"{line}\n")

    def close(self) -> None:
        """Ship the rest."""
        self._shipper.close()
        self._file.close()
        self._folder.cleanup()


class Member:
    """One run's own part: opened for its attempt, prepared, trained by its group, and ended with or without an error."""

    def __init__(self, attempt: MemberAttempt, settings: Settings, store: Store) -> None:
        config = attempt.config
        self.attempt = attempt
        self.record = RunRecord(store, config.run_id, config.nonce)
        self.spec = TrainSpec.model_validate(config.spec)
        self.index = 0
        self.stack: Stack | None = None
        self.outer_loop: OuterLoop
        self.context: WorkerContext
        self.feeder: BatchFeeder
        self.recorder: Recorder
        self._first: Held
        self._settings = settings
        self._ending = contextlib.ExitStack()
        self.log = MemberLog(store, partial(self.record.paths.log, self.record.label(config.attempt), 0))
        self.log.tell(f"{self.record.run_id} in process {os.getpid()} on {socket.gethostname()}, attempt {config.attempt}")

    @cached_property
    def place(self) -> Place:
        """Where its one worker stands."""
        config = self.attempt.config
        return config.place(0, user_package.enter(self.record.store, config.folder), self.record, self._settings, identity(0))

    @property
    def fence(self) -> Callable[[], None]:
        """Raises LeaseLost when this attempt no longer owns the run."""
        return fence_of(self.record, self.attempt.config)

    def prepare(self, context: WorkerContext, judge: Evaluates) -> None:
        """Restore the run or start it; the context's replica, which is lent, holds its first weights.

        `judge` evaluates the validation examples, if there are any.
        """
        self.context = context
        hooks = Hooks(tell=self.log.tell)
        self.recorder = StoreRecorder(self.record, self.place.attempt, context.checkpoints, identity(0), hooks)
        self._ending.callback(self.recorder.close)
        snapshot = start_or_resume(context, self.recorder)
        replica, examples, arrays = context.replica, context.examples, context.arrays
        optimizer, kept = replica.optimizer.variables, context.space.kept
        self._first = (copy_model(replica.model), copy_variables(optimizer), copy_variables(kept))
        self.feeder = BatchFeeder(examples.plan, arrays.train, arrays.train_labels, None)
        self._ending.callback(self.feeder.close)
        self.outer_loop = OuterLoop(
            spec=self.spec,
            intervals=examples.intervals,
            replica=self,
            pace=StepsPerExecution(0, proposes=True),
            validation=judge if len(examples.validation_rows) else None,
            recorder=self.recorder,
            callbacks=keras.callbacks.CallbackList([], model=replica.model, add_history=False),
            callback_states=CallbackStates([]).take,
            state=LoopState.restored(snapshot) if snapshot else LoopState.fresh(1 + len(replica.metric_names)),
        )

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of the task's metrics."""
        return self.context.replica.metric_names

    def realised_model(self) -> keras.Model:
        """The model that all members take turns in; its weights are those of whoever had it last."""
        return self.context.replica.model

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.stack.rates()[self.index]) if self.stack else 0.0

    @property
    def held(self) -> Held:
        """Copies in host memory of the model's, the optimizer's and the space's variables."""
        return self.stack.held(self.index) if self.stack else self._first

    def copies(self) -> tuple[Tensors, Tensors, Tensors]:
        """Return the same, as a replica does."""
        return self.held

    def averages(self) -> Tensors:
        """Return none: runs whose optimizers average weights train apart."""
        return {}

    def averaged(self) -> contextlib.AbstractContextManager[bool]:
        """Change nothing: the weights themselves are evaluated."""
        return contextlib.nullcontext(False)

    def is_asked_to_stop(self) -> bool:
        """Whether somebody cancelled the run, as the store says now, or its driver waits no more."""
        if self.recorder.stop_requested() or self.attempt.given_up:
            return True
        # A store that is away cannot carry a request either.
        with contextlib.suppress(StoreError):
            return self.record.cancel_requested()
        return False

    def lend_weights(self) -> None:
        """Give the replica this member's weights."""
        assign_variables(self.context.replica.model.variables, self.held[0])

    def end(self) -> None:
        """Write the rest and end the attempt."""
        self._ending.close()
        self.log.tell(timed("done"))
        self._close(None)

    def fail(self, error: BaseException) -> None:
        """End with an error, which is in the store by then."""
        known = report_failure(self.record, self.attempt.config.attempt, 0, error, self.log.tell)
        # The same error may well come again here.
        with contextlib.suppress(Exception):
            self._ending.close()
        self._close(known)

    def _close(self, error: BaseException | None) -> None:
        self.log.close()
        self.attempt.end(error)


def beside(like: WorkerContext, member: Member) -> WorkerContext:
    """The context of another run of the same shapes that borrows the replica of `like`."""
    spec, replica = member.spec, like.replica
    examples: Examples = load_examples(spec, member.place, member.record, replica.task)
    checkpoints = CheckpointStore(member.record, spec.checkpoint, member.record.label(member.place.attempt), member.fence)
    with like.strategy.scope():
        space = make_space(spec, replica.model, examples.arrays, examples.plan.examples)
    return WorkerContext(spec, member.place, member.record, checkpoints, examples, like.strategy, replica, space)


def first_weights(context: WorkerContext) -> Tensors:
    """The model's variables as a run apart begins with them: made with its seed in the same order."""
    spec, task, arrays = context.spec, context.replica.task, context.arrays
    keras.utils.set_random_seed(spec.seed)
    return copy_model(
        make_model(spec, arrays.input_shape, task.outputs(len(arrays.classes)), context.place.folder, task.every_step)
    )
