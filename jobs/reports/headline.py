"""The result of a run in one line."""

from jobs.reports.facts import RunFacts
from jobs.reports.words import duration, figure, percent, plural
from service.records.schemas import RunState


def headline(facts: RunFacts) -> str:
    """How the run ended or stands, with its figure, in one sentence."""
    state, metrics = facts.standing, facts.metrics
    name = facts.spec.get("dataset", "").partition("@")[0]
    if state == RunState.SUCCEEDED:
        return f"{_result(facts, name)} after {_length(facts)}."
    best = _latest(metrics)
    where = f"step {facts.step:,} of {facts.progress.steps:,}" if facts.progress.steps else f"step {facts.step:,}"
    sofar = f" ({best})" if best else ""
    if state == RunState.FAILED:
        reason = (facts.state.error and facts.state.error.message) or "for a reason that it could not write down"
        return f"Failed at {where}{sofar}: {reason.rstrip('.')}."
    if state == RunState.CANCELLED:
        return f"Cancelled at {where}{sofar}; `delayline train --resume --name {facts.run_id}` resumes it."
    if state == RunState.LOST:
        return f"Lost at {where}{sofar}: nobody drives it any more; submit it again, and it resumes from its last checkpoint."
    return f"{state.capitalize()}: {where}{sofar}." if facts.step else f"{state.capitalize()}: the first step is not done yet."


def _result(facts: RunFacts, dataset: str) -> str:
    metrics = facts.metrics
    tests = int((facts.model.get("counts") or facts.data.get("splits") or {}).get("test", 0))
    if "test_accuracy" in metrics:
        count = f"{tests:,}" if tests else "the"
        loss = f" (test loss {figure(metrics['test_loss'])})" if "test_loss" in metrics else ""
        if chance := facts.model.get("chance"):
            loss = loss.replace("(", f"(chance {percent(chance)}, ", 1)
            return f"{percent(metrics['test_accuracy'])} of the bits of {count} test sequences of {dataset} right{loss}"
        return f"{percent(metrics['test_accuracy'])} of {count} test examples of {dataset} right{loss}"
    names = [name for name in metrics if name.startswith("test_")] or list(metrics)
    return ", ".join(f"{name} {figure(metrics[name])}" for name in names) or "Succeeded"


def _length(facts: RunFacts) -> str:
    epochs = facts.progress.epoch or 0
    parts = [plural(epochs, "epoch")] if epochs else []
    parts += [plural(facts.step, "step")]
    started, finished = facts.state.started, facts.state.finished
    took = f" in {duration(finished - started)}" if started and finished else ""
    by = f" by {plural(facts.workers, 'worker')}" if facts.workers else ""
    return f"{', '.join(parts)}{took}{by}"


def _latest(metrics: dict[str, float]) -> str:
    for name in ("val_accuracy", "accuracy"):
        if name in metrics:
            return f"{name.removeprefix('val_')} {percent(metrics[name])}{' on validation' if name.startswith('val_') else ' in training'}"
    return f"loss {figure(metrics['loss'])}" if "loss" in metrics else ""
