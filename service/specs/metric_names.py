"""Metrics of evaluations that a spec may name beside its task's own; the workers compute them by Keras."""

import re
from collections.abc import Sequence

from service.errors import InvalidInput
from service.specs.generated import is_bits_task
from service.specs.train import TrainSpec

F1 = "macro_f1"
"""The mean over the classes of F1, the harmonic mean of precision and recall."""
AUC = "auc"
"""The mean over the classes of the area under the ROC curve of each against the rest, by 200 thresholds."""
_TOP = re.compile(r"top_([1-9]\d{0,5})")
"""`top_5`: the share of the examples whose class is among the five likeliest."""
MOST_OF_AUC = 1000
"""Classes (assumed: 800,000 numbers in all, 3 MB to sum over the workers for each part of an evaluation)."""


def top_count(name: str) -> int:
    """5 of `top_5`; 0 of what is no such name."""
    found = _TOP.fullmatch(name)
    return int(found[1]) if found else 0


def higher_is_better(name: str) -> bool:
    """Whether a metric, `val_` or `test_` before its name or not, improves by rising."""
    own = name.removeprefix("val_").removeprefix("test_")
    return "accuracy" in own or own in (F1, AUC) or top_count(own) > 0


def check_metrics(spec: TrainSpec) -> None:
    """Raise InvalidInput for names that there are not, or that the task has no use for."""
    for name in spec.metrics:
        if name not in (F1, AUC) and not top_count(name):
            raise InvalidInput(
                f"There is no metric {name[:60]!r}: use top_K (such as top_5), {F1} or {AUC}, beside loss and accuracy."
            )
        if spec.metrics.count(name) > 1:
            raise InvalidInput(f"metrics has {name!r} twice: leave one out.")
    if spec.metrics and is_bits_task(spec.task):
        raise InvalidInput(
            f"metrics has {spec.metrics[0]!r}, which is of examples with one class each, but the task {spec.task!r} has a bit at each "
            "step: use its loss and accuracy, with metrics=[]."
        )


def check_metrics_of(spec: TrainSpec, classes: Sequence[str]) -> None:
    """Raise InvalidInput for metrics that mean nothing for so many classes."""
    for name in spec.metrics:
        count = top_count(name)
        if count == 1:
            raise InvalidInput("metrics has 'top_1', which is the accuracy: leave it out.")
        if count >= len(classes) and count:
            raise InvalidInput(
                f"metrics has {name!r}, but {spec.dataset} has {len(classes)} classes: it would always be 1; use fewer."
            )
        if name == AUC and len(classes) > MOST_OF_AUC:
            raise InvalidInput(
                f"metrics has 'auc', but {spec.dataset} has {len(classes)} classes: it is for {MOST_OF_AUC} at most."
            )
