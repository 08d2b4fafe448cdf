"""Where an attempt begins: the newest checkpoint, first weights; and where a run ends: the best weights."""

from dataclasses import replace

from jobs.artifacts.checkpoints import Snapshot
from jobs.training.context import Session
from jobs.training.outer_loop import latest_metrics
from jobs.training.recorder import LeadWatcher, SilentWatcher
from jobs.training.transfer import start_from
from jobs.training.variables import assign_variables, draw_differently
from service.errors import Damaged, InfrastructureFailure, NotFound
from service.records.first_weights import weights_of


def restore(session: Session, watcher: LeadWatcher | SilentWatcher) -> Snapshot | None:
    """Put the newest intact checkpoint into the model; all workers must have found the same one. It is returned without its arrays."""

    def damaged(step: int, why: str) -> None:
        watcher.event(
            "checkpoint damaged", f"the checkpoint at step {step} is damaged; going back to the one before: {why}", step=step
        )

    snapshot = session.checkpoints.load_newest(damaged)
    step = snapshot.step if snapshot else 0
    alike = all(session.replica.alike([step]))
    if session.checkpoints.share is not None:
        # All have read by now.
        session.checkpoints.share.release()
    if not alike:
        raise InfrastructureFailure(
            f"This worker found the checkpoint of step {step}, others found another one; the attempt starts again."
        )
    if snapshot:
        assign_variables(session.replica.model.variables, snapshot.model)
        assign_variables(session.replica.optimizer.variables, snapshot.optimizer)
        assign_variables(session.replica.space.kept, snapshot.space)
        watcher.event("resumed", f"goes on from the checkpoint at step {step}", step=step)
    else:
        if session.spec.init_from is not None:
            _take_first_weights(session, watcher)
        session.replica.space.begin()
    draw_differently(session.replica.model, session.place.rank)
    watcher.resume(step, snapshot.history if snapshot else [], snapshot.sealed if snapshot else ())
    # Whoever holds it while the run trains would hold the arrays.
    return replace(snapshot, model={}, optimizer={}, space={}, averaged={}) if snapshot else None


def _take_first_weights(session: Session, watcher: LeadWatcher | SilentWatcher) -> None:
    """Before the first step: put another run's or a file's weights into the model, the same on all workers."""
    weights = weights_of(session.record, session.spec)
    start = start_from(session.replica.model, weights, session.record.store, session.spec.freeze, session.arrays.classes)
    if not all(session.replica.alike([int(start.sha256[:8], 16)])):
        raise InfrastructureFailure(f"The workers found {weights} with different contents; the attempt starts again.")
    watcher.event("initialised", start.message, **start.document())


def _end_with_best(session: Session, watcher: LeadWatcher | SilentWatcher) -> dict[str, float]:
    """Give the model the weights that the run ends with: the best ones if it asks for them; return what their evaluation found."""
    replica = session.replica
    # Every worker looks for the best checkpoint: not before rank 0 has written the last one.
    replica.alike([0])
    policy = session.spec.early_stopping
    best = _best(session, watcher) if policy is not None and policy.restore_best else None
    if not all(replica.alike([best.step if best else 0])):
        raise InfrastructureFailure("The workers found different best checkpoints; the attempt starts again.")
    replica.end_with(best.result if best else None)
    if policy is None or best is None:
        return {}
    message = f"the run ends with the weights of step {best.step}, the best by {policy.metric}"
    watcher.event("restored best", message, step=best.step)
    return {name: value for name, value in latest_metrics(best.history).items() if name.startswith("val_")}


def _best(session: Session, watcher: LeadWatcher | SilentWatcher) -> Snapshot | None:
    try:
        best = session.checkpoints.best_kept()
        return None if best is None else session.checkpoints.load(best)
    except (Damaged, NotFound) as error:
        watcher.event("checkpoint damaged", f"the run ends with its last weights, for the best are damaged: {error}")
        return None
