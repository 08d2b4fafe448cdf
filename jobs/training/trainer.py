"""One attempt in one worker: data, ring, model, newest checkpoint, training loop, test, saved model."""

import contextlib
import functools
from collections.abc import Callable, Mapping

import keras
import numpy as np
from numpy.typing import NDArray

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.artifacts.model_file import keep_model, set_optimizer
from jobs.artifacts.model_graph import model_graph
from jobs.artifacts.node_share import NodeShare
from jobs.datasets.augmentation import make_augmenter
from jobs.datasets.reading import example_bytes
from jobs.liveness import longer, tick
from jobs.models.registry import build_model, model_inputs, refuse_compiled_sums, synchronise_batch_normalisation
from jobs.target_space.make import make_space
from jobs.tasks.registry import task_for
from jobs.training.agreement import Agreement
from jobs.training.analysis.analyse import analyse
from jobs.training.analysis.description import describe_attempt
from jobs.training.analysis.hardware import missing_gpus
from jobs.training.analysis.subject import Subject
from jobs.training.batches import BatchFeeder
from jobs.training.callback_state import CallbackStates
from jobs.training.callbacks import make_callbacks, observes_batches
from jobs.training.context import WorkerContext
from jobs.training.evaluation import Evaluator
from jobs.training.example_weights import check_weights
from jobs.training.examples import load_examples
from jobs.training.hooks import Hooks
from jobs.training.metrics import ExtraMetrics
from jobs.training.model_remarks import Built, remarks
from jobs.training.optimizers import make_optimizer, set_precision
from jobs.training.outer_loop import Evaluates, OuterLoop, judged, latest_metrics
from jobs.training.place import Place
from jobs.training.recorder import NullRecorder, Recorder
from jobs.training.replica import Replica
from jobs.training.restore import end_with_best, start_or_resume
from jobs.training.ring import Guard, form_ring
from jobs.training.state import LoopState
from jobs.training.steps_per_execution import StepsPerExecution
from jobs.training.store_recorder import StoreRecorder
from jobs.training.training_loop import TrainingLoop
from jobs.training.transfer import freeze_layers
from service.control_groups import UNLIMITED
from service.machine import this_machine
from service.records.run_record import Document, RunRecord
from service.records.schemas import RunState
from service.specs.train import TrainSpec


def train(
    spec: TrainSpec,
    place: Place,
    record: RunRecord,
    fence: Callable[[], None],
    members: list[Document],
    guard: Guard,
    hooks: Hooks,
    trained: Document | None = None,
) -> None:
    """Train a run from its newest checkpoint, or from the beginning, to its end or until it is cancelled.

    `trained`: the progress document of a run that was trained and lost its analysis; that alone is made again.
    """
    context = prepare(spec, place, record, fence, guard)
    recorder: Recorder = NullRecorder()
    if place.rank == 0:
        recorder = StoreRecorder(record, place.attempt, context.checkpoints, members, hooks, trained)
    with contextlib.closing(recorder):
        snapshot = start_or_resume(context, recorder)
        if context.arrays.streamed:
            recorder.event("streaming", "the examples are read from the dataset's shards while it trains")
        callbacks = CallbackStates(make_callbacks(spec, place.folder), recorder.event)
        loop = make_loop(context, recorder, snapshot, callbacks)
        tick()
        if snapshot is not None and trained is not None and trained["step"] == snapshot.step:
            loop.feeder.close()
            _analyse_alone(context, recorder, loop.outer, trained)
            return
        loop.outer.callbacks.on_train_begin()
        callbacks.begin(snapshot)
        begin(context, recorder, loop.outer, lambda: draw(context))
        outcome = loop.run()
        loop.feeder.close()
        finish(context, recorder, loop.outer, outcome)


def begin(context: WorkerContext, recorder: Recorder, outer_loop: OuterLoop, graph: Callable[[], bytes]) -> None:
    """Write what is known before the first step."""
    describe_attempt(_subject(context), recorder.event)
    if missing := missing_gpus(context.spec.worker.gpus):
        recorder.event("no GPU", missing)
    drawn = functools.cache(graph)
    if outer_loop.state.step == 0:
        recorder.remarks(lambda: _remarks(context, drawn))
        if weighted := context.examples.weights.message(context.arrays.classes):
            recorder.event("weighted", weighted)
    recorder.started(model_summary(context.replica.model), outer_loop.intervals, outer_loop.state.step)
    recorder.graph(drawn)


def _remarks(context: WorkerContext, graph: Callable[[], bytes]) -> list[str]:
    replica, arrays = context.replica, context.arrays
    every_step, classes = replica.task.every_step, len(arrays.classes)
    return remarks(Built(replica.model, context.spec, every_step, arrays.features, classes, graph, context.first_outputs))


def finish(
    context: WorkerContext,
    recorder: Recorder,
    outer_loop: OuterLoop,
    outcome: RunState,
    test: Evaluates | None = None,
) -> None:
    """After the last step: if the run succeeded, evaluate the test split, save the model and analyse what it learned.

    `test` evaluates the test examples, else the context's replica does.
    """
    outer_loop.callbacks.on_train_end()
    longer()
    recorder.wait_for_checkpoints()
    metrics = dict(latest_metrics(outer_loop.state.history))
    if outcome == RunState.SUCCEEDED:
        recorder.update(phase="testing")
        metrics |= end_with_best(context, recorder)
        step = outer_loop.state.step
        metrics |= judged(test or _test(context), "test", outer_loop.intervals.epoch(step), step)
        longer()
        keep_model(context.replica.realised_model(), context.record, context.place.rank, recorder.event, recorder.still_own)
        recorder.trained(metrics, outer_loop.state)
        analyse(_subject(context), recorder.event)
    recorder.ended(outcome, metrics, outer_loop.state)


def _analyse_alone(context: WorkerContext, recorder: Recorder, outer_loop: OuterLoop, trained: Document) -> None:
    """Make the analysis that was lost of a run that is trained, tested and saved."""
    recorder.event("analysing", "the run is trained: only its analysis, which was lost, is made again")
    recorder.wait_for_checkpoints()
    longer()
    describe_attempt(_subject(context), recorder.event)
    end_with_best(context, recorder)
    analyse(_subject(context), recorder.event)
    recorder.ended(RunState.SUCCEEDED, trained["metrics"], outer_loop.state)


def prepare(spec: TrainSpec, place: Place, record: RunRecord, fence: Callable[[], None], guard: Guard) -> WorkerContext:
    """Load the data, form the ring, and make model, optimizer and compiled functions, equal on all workers."""
    set_precision(spec)
    strategy = form_ring(place.workers, place.ring_timeout, guard)
    task = task_for(spec)
    examples = load_examples(spec, place, record, task)
    arrays = examples.arrays
    keras.utils.set_random_seed(spec.seed)
    seen: list[np.ndarray] = []
    with strategy.scope():
        outputs = task.outputs(len(arrays.classes))
        model = build_model(
            spec,
            arrays.input_shape,
            outputs,
            place.folder,
            task.every_step,
            lambda zeros: seen.append(np.asarray(zeros, np.float32)),
        )
        freeze_layers(model, spec.freeze)
        if place.workers > 1:
            synchronise_batch_normalisation(model)
            if spec.jit_compile:
                refuse_compiled_sums(model)
        space = make_space(spec, model, arrays, examples.plan.examples)
        optimizer = make_optimizer(spec, examples.intervals.total)
        optimizer.build(space.variables)
    replica = Replica(
        spec,
        strategy,
        model,
        optimizer,
        task,
        {f.name: f.divisor for f in arrays.features},
        lambda features: model_inputs(model, features),
        space,
        examples.weights,
        ExtraMetrics(spec.metrics, len(arrays.classes)),
    )
    share = NodeShare(place.cache / "checkpoints", place.neighbours)
    checkpoints = CheckpointStore(record, spec.checkpoint, record.label(place.attempt), fence, share=share)
    return WorkerContext(spec, place, record, checkpoints, examples, strategy, replica, space, *seen)


def draw(context: WorkerContext) -> bytes:
    """The model's graph for TensorBoard."""
    model = context.replica.model
    shapes = {f.name: (f.shape, f.model_dtype) for f in context.arrays.features}
    return model_graph(model, shapes, lambda features: model_inputs(model, features))


def make_loop(context: WorkerContext, recorder: Recorder, snapshot: Snapshot | None, callbacks: CallbackStates) -> TrainingLoop:
    """The training loop at the snapshot's step, or at the first."""
    spec, replica, arrays, examples = context.spec, context.replica, context.arrays, context.examples
    set_optimizer(replica.model, replica.optimizer)

    def check(columns: Mapping[str, NDArray[np.generic]], numbers: NDArray[np.int64]) -> None:
        # What is streamed is seen for the first time as it is trained on.
        if spec.sample_weight is not None and arrays.streamed:
            check_weights(spec.sample_weight, columns[spec.sample_weight], numbers)

    feeder = BatchFeeder(examples.plan, arrays.train, arrays.train_labels, make_augmenter(spec.augment, spec.seed), check)
    outer = OuterLoop(
        spec=spec,
        intervals=examples.intervals,
        replica=replica,
        pace=StepsPerExecution(
            example_bytes(arrays.train) * examples.plan.local_batch,
            proposes=context.place.rank == 0,
            single_steps=observes_batches(callbacks.callbacks),
        ),
        validation=context.evaluator("validation", examples.validation_rows) if len(examples.validation_rows) else None,
        recorder=recorder,
        callbacks=keras.callbacks.CallbackList(callbacks.callbacks, model=replica.model, add_history=False),
        callback_states=callbacks.take,
        state=LoopState.restored(snapshot) if snapshot else LoopState.fresh(1 + len(replica.metric_names)),
        agreement=Agreement(replica, context.place.rank, context.place.workers, bool(context.space.kept)).check,
    )
    return TrainingLoop(outer=outer, replica=replica, feeder=feeder)


def _test(context: WorkerContext) -> Evaluator:
    return context.evaluator("test", np.arange(len(context.arrays.test_labels)))


def _subject(context: WorkerContext) -> Subject:
    place, plan = context.place, context.examples.plan
    counts = {
        "training": len(plan.examples),
        "validation": len(context.examples.validation_rows),
        "test": len(context.arrays.test_labels),
        "steps_per_epoch": plan.steps_per_epoch,
    }
    memory = min(context.spec.worker.memory or UNLIMITED, this_machine().memory // max(1, place.neighbours))
    weights = context.examples.weights.message(context.arrays.classes)
    return Subject(
        context.spec,
        context.record,
        context.replica,
        context.arrays,
        place.rank,
        place.workers,
        place.attempt,
        counts,
        memory,
        weights,
    )


def model_summary(model: keras.Model) -> str:
    """Keras' table of layers, shapes and parameters."""
    lines: list[str] = []
    model.summary(print_fn=lambda line, line_break=True: lines.append(str(line)))
    return "\n".join(lines)
