"""Metrics that a spec asks for: which there are, where they fit, and what may go by them."""

from typing import Any

import pytest

from service.checks.train import check_stopping, reported
from service.errors import InvalidInput
from service.recipes.validation import validate
from service.specs.metric_names import check_metrics, check_metrics_of, higher_is_better
from service.specs.train import TrainSpec

BITS: dict[str, Any] = {"dataset": "bits", "dataset_params": {"delay": 3, "variant": "recall"}, "task": "bit-memory"}


def spec(*metrics: str, **keys: Any) -> TrainSpec:
    return validate({"model": "cnn", "dataset": "digits", "epochs": 1, "metrics": list(metrics), **keys})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (spec("f1"), "There is no metric 'f1': use top_K"),
        (spec("top_0"), "There is no metric 'top_0'"),
        (spec("auc", "auc"), "metrics has 'auc' twice"),
        (spec("top_1"), "metrics has 'top_1', which is the accuracy"),
        (spec("top_10"), "metrics has 'top_10', but digits has 10 classes: it would always be 1"),
        (spec("macro_f1", **BITS), "metrics has 'macro_f1', which is of examples with one class each, but the task 'bit-memory'"),
    ],
)
def test_what_does_not_fit_is_refused(asked: TrainSpec, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_metrics(asked), check_metrics_of(asked, "0123456789")


def test_auc_is_for_so_many_classes() -> None:
    check_metrics_of(spec("auc", "top_5"), [str(number) for number in range(1000)])
    with pytest.raises(InvalidInput, match="it is for 1000 at most"):
        check_metrics_of(spec("auc"), [str(number) for number in range(1001)])


def test_runs_may_go_by_them_where_they_are_evaluated() -> None:
    asked = spec(
        "top_5",
        "macro_f1",
        early_stopping={"metric": "val_macro_f1"},
        callbacks=[{"name": "EarlyStopping", "monitor": "val_top_5"}],
    )
    check_stopping(asked)
    assert set(reported(asked)) == {"loss", "accuracy", "val_loss", "val_accuracy", "val_top_5", "val_macro_f1"}
    with pytest.raises(InvalidInput, match=r"early_stopping.metric is 'val_auc', which no evaluation reports"):
        check_stopping(spec("top_5", early_stopping={"metric": "val_auc"}))
    with pytest.raises(
        InvalidInput, match=r"The callback EarlyStopping monitors 'val_acc', which .* \(did you mean 'val_accuracy'\?\)"
    ):
        check_stopping(spec(callbacks=[{"name": "EarlyStopping", "monitor": "val_acc"}]))
    with pytest.raises(InvalidInput, match="The callback ReduceLROnPlateau monitors 'val_loss', which this run does not report"):
        check_stopping(spec(callbacks=["ReduceLROnPlateau"], evaluate={"validation": 0}))


@pytest.mark.parametrize(
    ("name", "higher"),
    [("val_loss", False), ("loss", False), ("val_accuracy", True), ("test_top_5", True), ("val_macro_f1", True), ("auc", True)],
)
def test_which_way_is_better(name: str, higher: bool) -> None:
    assert higher_is_better(name) == higher
