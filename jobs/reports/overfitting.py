"""Whether a run learnt its training examples by heart, by its rows of metrics."""

from dataclasses import dataclass
from statistics import fmean

from service.records.schemas import Row

RISE = 0.1
"""A validation loss that ends so much above its lowest value counts as risen (assumed: above what one evaluation varies by)."""


@dataclass(frozen=True)
class Verdict:
    """`since`: the step of the lowest validation loss, where over-fitting begins; None where there is none."""

    since: int | None
    sentence: str
    best: int | None = None
    """The step of the lowest validation loss, over-fitted or not."""


def judge(history: list[Row], epoch_of: str = "epoch") -> Verdict:
    """Over-fitting: from the lowest validation loss on, that of validation rises while that of training falls."""
    scored = [(value, row) for row in history if (value := row.value("val_loss")) is not None]
    if len(scored) < 2:
        reason = "there is no validation split" if history and not scored else "there are fewer than two evaluations so far"
        return Verdict(None, f"Whether the model over-fits cannot be seen: {reason}.")
    lowest, best = min(scored, key=lambda each: each[0])
    ends, last = scored[-1]
    before, after = _training_loss(history, best), _training_loss(history, last)
    begun = f"{epoch_of} {'?' if best.epoch is None else best.epoch}"
    if best is last:
        return Verdict(None, f"No over-fitting: the validation loss is lowest at the end, {ends:.4f}.", best.step)
    if ends <= lowest * (1 + RISE):
        near = f"within {RISE:.0%} of its lowest value, {lowest:.4f} in {begun}"
        return Verdict(None, f"No over-fitting: the validation loss ends at {ends:.4f}, {near}.", best.step)
    rises = f"the validation loss rose from {lowest:.4f} in {begun} to {ends:.4f}"
    if after < before:
        sentence = f"Over-fitting after {begun}: {rises} while the training loss fell from {before:.4f} to {after:.4f}."
        return Verdict(best.step, sentence, best.step)
    sentence = f"No over-fitting: {rises}, but the training loss did not fall meanwhile."
    return Verdict(None, sentence, best.step)


def _training_loss(history: list[Row], at: Row) -> float:
    """The mean of the training loss over the rows of the epoch of `at`."""
    losses = [value for row in history if row.epoch == at.epoch and (value := row.value("loss")) is not None]
    return fmean(losses) if losses else 0.0
