"""When a run stops before its last step, decided from its history alone: a resumed run decides as one that never stopped."""

from service.records.run_record import Document
from service.specs.metric_names import higher_is_better
from service.specs.parts import EarlyStopping

DEFAULT = EarlyStopping(metric="val_loss")


def lower_is_better(policy: EarlyStopping) -> bool:
    """Whether the policy's metric improves by falling."""
    return policy.mode == "min" or (policy.mode == "auto" and not higher_is_better(policy.metric))


def score_of(row: Document, policy: EarlyStopping | None) -> float | None:
    """How good a row of metrics is, lower is better; None where the metric is not in it. Without a policy: `val_loss`."""
    chosen = policy or DEFAULT
    value = row.get(chosen.metric)
    if value is None:
        return None
    return float(value) if lower_is_better(chosen) else -float(value)


def _evaluations(history: list[Document]) -> list[Document]:
    """The rows that hold an evaluation; those between them have training metrics alone."""
    return [row for row in history if any(name.startswith("val_") for name in row)]


def is_new_best(history: list[Document], policy: EarlyStopping) -> bool:
    """Whether the newest row is of an evaluation that is better than all before."""
    evaluated = _evaluations(history)
    if not history or evaluated[-1:] != history[-1:]:
        return False
    *before, newest = (score_of(row, policy) for row in evaluated)
    return newest is not None and all(score is None or newest < score for score in before)


def stop_reason(history: list[Document], policy: EarlyStopping) -> str | None:
    """Why the run stops, or None: the last two evaluations were better than the goal, or the last `patience`, and at least one,
    improved by no more than `min_delta`."""
    scores = [score for row in _evaluations(history) if (score := score_of(row, policy)) is not None]
    if policy.goal is not None:
        goal = policy.goal if lower_is_better(policy) else -policy.goal
        if len(scores) > 1 and max(scores[-2:]) < goal:
            return f"{policy.metric} is better than {policy.goal:g}"
    best: float | None = None
    waited = 0
    for score in scores:
        if best is None or score < best - policy.min_delta:
            best, waited = score, 0
        else:
            waited += 1
    return "the metric stopped improving" if best is not None and waited >= max(1, policy.patience) else None
