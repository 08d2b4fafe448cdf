"""A group: runs of the same shapes and at the same step train together, and each ends by itself."""

import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from jobs.artifacts.model_file import set_optimizer
from jobs.artifacts.tensors import Tensors
from jobs.datasets.reading import example_bytes
from jobs.liveness import tick
from jobs.training.context import WorkerContext
from jobs.training.evaluation import BATCH
from jobs.training.state import LoopState
from jobs.training.steps_per_execution import StepsPerExecution
from jobs.training.trainer import begin, draw, finish, prepare
from jobs.training.variables import assign_variables, copy_model, copy_variables
from jobs.vectorized.member import Member, beside, first_weights
from jobs.vectorized.member_attempt import MemberAttempt
from jobs.vectorized.stack import Stack
from jobs.worker.process import stall_watch
from service.errors import InfrastructureFailure
from service.records.schemas import RunState
from service.settings import Settings
from service.storage import open_store

Value = TypeVar("Value")
ASKING_SECONDS = 0.5
"""Time for a sweep to ask all of a group to stop (assumed: some milliseconds each)."""


def train_group(attempts: Sequence[MemberAttempt], settings: Settings) -> None:
    """Train the runs of all attempts to their ends; each attempt ends as soon as its own run does."""
    store = open_store(settings, patience=settings.store_patience)
    group = TrialGroup([Member(attempt, settings, store) for attempt in attempts])
    try:
        with group.stall_watch():
            group.prepare()
            group.train()
    except BaseException as error:
        group.fail(error)


@dataclass(frozen=True)
class Call:
    """Seconds of one call: waiting for examples, and computing; `built`: its steps, if it first had to build the function."""

    input: float
    seconds: float
    built: int

    def note(self, state: LoopState) -> None:
        """Add its seconds to a run's state."""
        state.spent.input += self.input
        state.seconds += self.seconds
        if self.built:
            state.spent.building += self.seconds
            state.spent.building_steps += self.built


class TrialGroup:
    """The members that are left, and the stack of those that the compiled functions were made for."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = list(members)
        self._like: WorkerContext | None = None
        """The first member's context; its replica is lent to all."""
        self._fresh: Tensors
        self._stack: Stack
        self._pace: StepsPerExecution
        self._stacked: list[Member] = []
        self._evaluated: dict[str, tuple[int, Any]] = {}
        """By split: the step at which all were evaluated last, and their sums."""
        self._first_weights: dict[int, Tensors] = {}
        """By the seed that they were drawn with."""

    def stall_watch(self) -> contextlib.AbstractContextManager[None]:
        """Within it a stalled process is ended: the first run's failure says so, and all runs resume in another process."""
        member = self._members[0]
        return stall_watch(member.attempt.config, 0, member.log.path)

    def prepare(self) -> None:
        """Restore or start each run, and stack those that are at the same step."""
        names = [member.record.run_id for member in self._members]
        graph: Callable[[], bytes] = functools.cache(lambda: draw(self._members[0].context))
        for member in list(self._members):
            with self._own_failure(member):
                member.prepare(self._context_of(member), _Evaluates(self, member, "validation"))
        self._keep_common_step()
        for member in list(self._members):
            with self._own_failure(member):
                others = [name for name in names if name != member.record.run_id]
                member.recorder.event(
                    "together", f"trains together with {len(others)} other trials, as one computation", trials=others
                )
                member.outer_loop.callbacks.on_train_begin()
                begin(member.context, member.recorder, member.outer_loop, graph)
                if not member.outer_loop.begin():
                    self._finish_member(member, RunState.SUCCEEDED)
        if self._members:
            self._assemble()

    def train(self) -> None:
        """Train until the last member has finished."""
        following = 0
        while self._members:
            outer_loop = self._members[0].outer_loop
            step = outer_loop.state.step
            count = following or outer_loop.intervals.steps_until_due(step, self._pace.most)
            following = outer_loop.intervals.steps_until_due(step + count, self._pace.most)
            sums, call = self._call(step, count, following)
            asked = self._asked_to_stop()
            for member in list(self._members):
                with self._own_failure(member):
                    self._advance(member, sums[:, member.index], call, member in asked)
            if 0 < 2 * len(self._members) <= len(self._stacked):
                self._assemble()

    def fail(self, error: BaseException) -> None:
        """Fail all members that are left."""
        for member in self._members:
            member.fail(error)

    def evaluate(self, member: Member, split: str) -> dict[str, float]:
        """Means over the member's `validation` or `test` examples; all members are evaluated when the first one asks."""
        step = member.outer_loop.state.step
        if self._evaluated.get(split, (None,))[0] != step:
            self._evaluated[split] = (step, self._sums(split))
        *totals, count = self._evaluated[split][1][member.index]
        return {name: float(total / count) for name, total in zip(("loss", *member.metric_names), totals, strict=True)}

    def _context_of(self, member: Member) -> WorkerContext:
        if self._like is None:
            # One worker needs no ring that could fail to form.
            self._like = prepare(member.spec, member.place, member.record, member.fence, lambda *_: contextlib.nullcontext())
            self._fresh = copy_variables(self._like.replica.optimizer.variables)
            set_optimizer(self._like.replica.model, self._like.replica.optimizer)
            self._first_weights[member.spec.seed] = copy_model(self._like.replica.model)
            return self._like
        context = beside(self._like, member)
        assign_variables(context.replica.model.variables, self._weights_of(context))
        assign_variables(context.replica.optimizer.variables, self._fresh)
        return context

    def _weights_of(self, context: WorkerContext) -> Tensors:
        """Return the weights with which the run would begin apart."""
        seed = context.spec.seed
        if seed not in self._first_weights:
            self._first_weights[seed] = first_weights(context)
        return self._first_weights[seed]

    def _keep_common_step(self) -> None:
        """Keep the members at the step that most are at; the others fail, and train apart."""
        if not self._members:
            return
        ((common, _),) = Counter(member.outer_loop.state.step for member in self._members).most_common(1)
        for member in [member for member in self._members if member.outer_loop.state.step != common]:
            with self._own_failure(member):
                raise InfrastructureFailure(
                    f"This run is at step {member.outer_loop.state.step} and those that it was to train with at {common}: it trains apart."
                )

    def _assemble(self) -> None:
        """Stack the members that are left; the compiled functions are for this number of members."""
        assert self._like
        held = [member.held for member in self._members]
        outer_loop = self._members[0].outer_loop
        self._stack = Stack(
            [member.spec for member in self._members],
            self._like.replica,
            [member.context.space for member in self._members],
            outer_loop.intervals.total,
        )
        self._stack.load(held)
        self._stacked, self._evaluated = list(self._members), {}
        for index, member in enumerate(self._members):
            member.index, member.stack = index, self._stack
        bytes_a_step = example_bytes(self._like.arrays.train) * outer_loop.spec.batch * len(self._members)
        self._pace = StepsPerExecution(bytes_a_step, proposes=True)

    def _call(self, step: int, count: int, following: int) -> tuple[Any, Call]:
        """Do `count` steps; return the sums [steps, members, 1 + metrics] and the seconds."""
        began, built = time.monotonic(), self._stack.built
        chunks = {member: member.feeder.take(step, count) for member in self._members}
        for member in self._members:
            member.feeder.prepare(step + count, following)
        ready = self._of_all(chunks)
        features = {name: np.stack([chunk.features[name] for chunk in ready], axis=1) for name in ready[0].features}
        labels = np.stack([chunk.labels for chunk in ready], axis=1)
        asked = time.monotonic()
        sums = self._stack.train(features, labels)
        seconds = time.monotonic() - asked
        self._pace.measured(seconds, count)
        self._pace.accept(self._pace.proposed)
        return sums, Call(asked - began, seconds, 0 if built else count)

    def _of_all(self, values: dict[Member, Value]) -> list[Value]:
        """Return one value for each stacked member; in the place of one that has finished, whose rows are computed and not used, another's."""
        spare = next(iter(values.values()))
        return [values.get(member, spare) for member in self._stacked]

    def _asked_to_stop(self) -> set[Member]:
        """The members to stop at this step. A sweep asks one run after another: all of them stop where the first one does."""
        if not any(member.recorder.stop_requested() or member.attempt.given_up for member in self._members):
            return set()
        time.sleep(ASKING_SECONDS)
        return {member for member in self._members if member.is_asked_to_stop()}

    def _advance(self, member: Member, sums: Any, call: Call, asked: bool) -> None:
        """Add the sums of steps that were done; finish the member at its end, or where it was asked to stop."""
        outer_loop, state = member.outer_loop, member.outer_loop.state
        call.note(state)
        outer_loop.add_sums(sums)
        outer_loop.pace.mark(state.step)
        if outer_loop.at_step() or state.step >= outer_loop.intervals.total:
            self._finish_member(member, RunState.SUCCEEDED)
        elif asked:
            outer_loop.stop()
            self._finish_member(member, RunState.CANCELLED)

    def _finish_member(self, member: Member, outcome: RunState) -> None:
        self._members.remove(member)
        member.lend_weights()
        policy = member.spec.early_stopping
        # The best weights, with which some runs end, are not in the stack, nor is one that had ended before.
        stacked = member.stack is not None and not (policy is not None and policy.restore_best)
        finish(member.context, member.recorder, member.outer_loop, outcome, _Evaluates(self, member, "test") if stacked else None)
        member.end()

    def _sums(self, split: str) -> Any:
        """Sums of loss, metrics and examples over each member's examples of a split: [members, 2 + metrics]."""
        examples = [_split(member.context, split) for member in self._stacked]
        count = len(examples[0][2])
        # Pieces of one size for both splits: the function is built once.
        size = min(BATCH, len(_split(self._stacked[0].context, "validation")[2]) or count)
        totals = np.zeros((len(examples), 2 + len(self._stacked[0].metric_names)))
        for first in range(0, count, size):
            # The last piece is padded with examples that do not count.
            places = np.arange(first, first + size) % count
            counts = np.tile((np.arange(first, first + size) < count).astype(np.float32), (len(examples), 1))
            features = {name: np.stack([arrays[name][rows[places]] for arrays, _, rows in examples]) for name in examples[0][0]}
            labels = np.stack([answers[rows[places]] for _, answers, rows in examples])
            totals += self._stack.evaluate(features, labels, counts)
            tick()
        return totals

    @contextlib.contextmanager
    def _own_failure(self, member: Member) -> Iterator[None]:
        """Within it an error fails this member alone."""
        try:
            yield
        except Exception as error:
            if member in self._members:
                self._members.remove(member)
            member.fail(error)


def _split(context: WorkerContext, split: str) -> tuple[Any, Any, Any]:
    """The features and labels of the `validation` or `test` examples, and which rows of them they are."""
    arrays = context.arrays
    if split == "validation":
        return *arrays.held_out, context.examples.validation_rows
    return arrays.test, arrays.test_labels, np.arange(len(arrays.test_labels))


@dataclass(frozen=True)
class _Evaluates:
    """Evaluates a member's examples of a split, together with those of the others."""

    group: TrialGroup
    member: Member
    split: str

    def evaluate(self) -> dict[str, float]:
        return self.group.evaluate(self.member, self.split)
