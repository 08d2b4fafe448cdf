"""Over-fitting is named where it is, and only there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.reports.overfitting import RISE, judge
from service.records.schemas import Row


def rows(training: list[float], validation: list[float]) -> list[Row]:
    return [
        Row.model_validate({"epoch": index + 1, "step": 10 * (index + 1), "loss": loss, "val_loss": scored})
        for index, (loss, scored) in enumerate(zip(training, validation, strict=True))
    ]


def test_a_validation_loss_that_rises_while_the_training_loss_falls() -> None:
    verdict = judge(rows([2.0, 1.0, 0.5, 0.2, 0.1], [2.1, 1.2, 0.9, 1.0, 1.2]))
    assert verdict.since == verdict.best == 30
    assert verdict.sentence == (
        "Over-fitting after epoch 3: the validation loss rose from 0.9000 in epoch 3 to 1.2000 "
        "while the training loss fell from 0.5000 to 0.1000."
    )


@pytest.mark.parametrize(
    ("training", "validation", "words"),
    [
        ([2.0, 1.0, 0.5], [2.1, 1.2, 0.9], "lowest at the end"),
        ([2.0, 1.0, 0.5], [2.1, 0.90, 0.92], "within 10% of its lowest value"),
        ([2.0, 0.5, 1.5], [2.1, 0.6, 1.7], "did not fall meanwhile"),
        ([2.0], [2.1], "cannot be seen: there are fewer"),
        ([], [], "cannot be seen"),
    ],
)
def test_other_endings(training: list[float], validation: list[float], words: str) -> None:
    verdict = judge(rows(training, validation))
    assert verdict.since is None
    assert words in verdict.sentence


def test_without_a_validation_split_it_cannot_be_judged() -> None:
    assert "no validation split" in judge([Row.model_validate({"epoch": 1, "step": 1, "loss": 1.0})]).sentence


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), max_size=12))
def test_the_definition(losses: list[tuple[float, float]]) -> None:
    verdict = judge(rows([a for a, _ in losses], [b for _, b in losses]))
    if len(losses) < 2:
        assert verdict.since is None
        return
    best = min(range(len(losses)), key=lambda index: losses[index][1])
    risen = losses[-1][1] > losses[best][1] * (1 + RISE) and losses[-1][0] < losses[best][0]
    assert verdict.since == (10 * (best + 1) if risen else None)
    assert verdict.best == 10 * (best + 1)
