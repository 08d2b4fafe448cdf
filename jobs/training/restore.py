"""Where an attempt begins: the newest checkpoint, first weights; and where a run ends: the best weights."""

from dataclasses import replace

import keras

from jobs.artifacts.checkpoints import Snapshot
from jobs.target_space.space import Space
from jobs.training.context import WorkerContext
from jobs.training.outer_loop import latest_metrics
from jobs.training.recorder import Recorder
from jobs.training.transfer import start_from
from jobs.training.variables import assign_variables, draw_differently
from service.errors import Damaged, InfrastructureFailure, NotFound
from service.records.first_weights import weights_of


def start_or_resume(context: WorkerContext, recorder: Recorder) -> Snapshot | None:
    """Resume from the newest intact checkpoint, else start with the first weights; return the checkpoint without its arrays."""
    snapshot = _newest(context, recorder)
    step = snapshot.step if snapshot else 0
    model = context.replica.model
    if snapshot:
        restore(model, context.replica.optimizer, context.space, snapshot)
        recorder.event("resumed", f"resumes from the checkpoint at step {step}", step=step)
    else:
        if context.spec.init_from is not None:
            _take_first_weights(context, recorder)
        context.space.begin()
    draw_differently(model, context.place.rank)
    recorder.resume(step, snapshot.history if snapshot else [], snapshot.sealed if snapshot else ())
    # Whoever holds it while the run trains would hold the arrays.
    return replace(snapshot, model={}, optimizer={}, space={}, averaged={}) if snapshot else None


def restore(model: keras.Model, optimizer: keras.optimizers.Optimizer, space: Space, snapshot: Snapshot) -> None:
    """Put a checkpoint's values into the variables of a model, its optimizer and its space."""
    assign_variables(model.variables, snapshot.model)
    assign_variables(optimizer.variables, snapshot.optimizer)
    assign_variables(space.kept, snapshot.space)


def _newest(context: WorkerContext, recorder: Recorder) -> Snapshot | None:
    """The newest intact checkpoint, None if there is none; raise InfrastructureFailure where the workers found different ones."""

    def damaged(step: int, why: str) -> None:
        recorder.event("checkpoint damaged", f"the checkpoint at step {step} is damaged; trying the one before: {why}", step=step)

    snapshot = context.checkpoints.load_newest(damaged)
    step = snapshot.step if snapshot else 0
    alike = all(context.replica.alike([step]))
    if context.checkpoints.share is not None:
        # All have read by now.
        context.checkpoints.share.release()
    if not alike:
        raise InfrastructureFailure(
            f"This worker found the checkpoint of step {step}, others found another one; the attempt starts again."
        )
    return snapshot


def _take_first_weights(context: WorkerContext, recorder: Recorder) -> None:
    """Before the first step: put another run's or a file's weights into the model, the same on all workers."""
    weights = weights_of(context.record, context.spec)
    start = start_from(context.replica.model, weights, context.record.store, context.spec.freeze, context.arrays.classes)
    if not all(context.replica.alike([int(start.sha256[:8], 16)])):
        raise InfrastructureFailure(f"The workers found {weights} with different contents; the attempt starts again.")
    recorder.event("initialised", start.message, **start.document())


def end_with_best(context: WorkerContext, recorder: Recorder) -> dict[str, float]:
    """Give the model the weights that the run ends with: the best ones if it asks for them; return what their evaluation found."""
    replica = context.replica
    # Every worker looks for the best checkpoint: not before rank 0 has written the last one.
    replica.alike([0])
    policy = context.spec.early_stopping
    best = _best(context, recorder) if policy is not None and policy.restore_best else None
    if not all(replica.alike([best.step if best else 0])):
        raise InfrastructureFailure("The workers found different best checkpoints; the attempt starts again.")
    replica.end_with(best.result if best else None)
    if policy is None or best is None:
        return {}
    message = f"the run ends with the weights of step {best.step}, the best by {policy.metric}"
    recorder.event("restored best", message, step=best.step)
    return {name: value for name, value in latest_metrics(best.history).items() if name.startswith("val_")}


def _best(context: WorkerContext, recorder: Recorder) -> Snapshot | None:
    try:
        best = context.checkpoints.best_kept()
        return None if best is None else context.checkpoints.load(best)
    except (Damaged, NotFound) as error:
        recorder.event("checkpoint damaged", f"the run ends with its last weights, for the best are damaged: {error}")
        return None
