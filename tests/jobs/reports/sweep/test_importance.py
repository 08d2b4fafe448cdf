"""The importance of hyperparameters, against analyses of variance by hand and sweeps whose answer is known."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.answered_rows import trial_row

from jobs.reports.sweep.axes import Dimension, dimensions
from jobs.reports.sweep.importance import FEWEST, Importance, importance
from service.records.answers import TrialRow
from service.specs.sweep import SweepSpec

BASE = [{"name": "only", "values": {}}]
Document = dict[str, Any]


def swept(space: Document, rows: list[TrialRow]) -> list[Dimension]:
    return dimensions(SweepSpec.model_validate({"base": BASE, "space": space, "search": "random", "trials": 1}), rows)


def row(**params: Any) -> TrialRow:
    return trial_row(base="only", params=params)


def shares(found: Importance) -> dict[str, float]:
    return {share.dimension.label: share.share for share in found.shares}


def grid(*sizes: int, repeats: int) -> tuple[list[Dimension], list[TrialRow]]:
    names = [f"p{index}" for index in range(len(sizes))]
    rows = [
        row(**dict(zip(names, values, strict=True))) for values in itertools.product(*map(range, sizes)) for _ in range(repeats)
    ]
    space = {name: {"grid": list(range(size))} for name, size in zip(names, sizes, strict=True)}
    return swept(space, rows), rows


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 4), st.integers(2, 4), st.integers(2, 3), st.integers(0, 2**32 - 1))
def test_a_full_grid_is_taken_apart_as_by_hand(first: int, second: int, repeats: int, seed: int) -> None:
    varied, rows = grid(first, second, repeats=repeats)
    values = np.random.default_rng(seed).normal(size=len(rows))
    found = shares(importance(varied, rows, values.tolist()))
    if not found:
        assert len(rows) < max(FEWEST, 1 + 2 * (first + second - 2))
        return
    table = values.reshape(first, second, repeats)
    total = ((table - table.mean()) ** 2).sum()
    between = {
        "p0": second * repeats * ((table.mean(axis=(1, 2)) - table.mean()) ** 2).sum(),
        "p1": first * repeats * ((table.mean(axis=(0, 2)) - table.mean()) ** 2).sum(),
    }
    freedom = {"p0": first - 1, "p1": second - 1}
    each = (total - sum(between.values())) / (len(rows) - 1 - sum(freedom.values()))
    for name, share in found.items():
        assert share == pytest.approx(max(0.0, between[name] - freedom[name] * each) / total, abs=1e-9)


def drawn(count: int, seed: int) -> tuple[list[Dimension], list[TrialRow]]:
    random = np.random.default_rng(seed)
    rows = [
        row(rate=float(10 ** random.uniform(-5, -1)), width=int(random.integers(8, 256)), kind=str(random.choice(["a", "b"])))
        for _ in range(count)
    ]
    space = {"rate": {"loguniform": [1e-5, 0.1]}, "width": {"integers": [8, 256]}, "kind": {"choice": ["a", "b"]}}
    return swept(space, rows), rows


def test_of_drawn_points_what_mattered_is_found() -> None:
    varied, rows = drawn(200, 1)
    noise = np.random.default_rng(2).normal(size=len(rows))
    values = [
        -((np.log10(r.params["rate"]) + 3) ** 2) + (r.params["kind"] == "a") + 0.1 * e for r, e in zip(rows, noise, strict=True)
    ]
    found = importance(varied, rows, values)
    by_name = {share.dimension.label: share for share in found.shares}
    assert [share.dimension.label for share in found.shares] == ["rate", "kind", "width"]
    assert by_name["rate"].share > 0.75
    assert by_name["rate"].sure and by_name["kind"].sure
    assert by_name["width"].share < 0.02
    assert found.rest == pytest.approx(1 - sum(share.share for share in found.shares))


def test_noise_alone_is_called_chance_as_often_as_it_should_be() -> None:
    sure = 0
    for seed in range(40):
        varied, rows = drawn(40, seed)
        values = np.random.default_rng(1000 + seed).normal(size=len(rows)).tolist()
        sure += sum(share.sure for share in importance(varied, rows, values).shares)
    # 5% of 120 are 6; more than 14 come about once in a thousand times.
    assert sure <= 14


def test_parameters_that_go_together_share_nothing_alone() -> None:
    rows = [row(first=index % 3, second=10 * (index % 3)) for index in range(30)]
    varied = swept({"first": {"grid": [0, 1, 2]}, "second": {"grid": [0, 10, 20]}}, rows)
    found = importance(varied, rows, [float(index % 3 + index / 100) for index in range(30)])
    assert shares(found) == {"first": 0.0, "second": 0.0}
    assert not any(share.sure for share in found.shares)


def test_without_any_noise_all_is_explained() -> None:
    varied, rows = grid(2, 2, repeats=2)
    found = importance(varied, rows, [float(r.params["p0"]) for r in rows])
    assert shares(found) == pytest.approx({"p0": 1.0, "p1": 0.0}, abs=1e-9)
    assert found.shares[0].sure
    assert not found.shares[1].sure


@pytest.mark.parametrize(
    ("sizes", "repeats", "values", "words"),
    [
        ((2, 2), 1, None, "4 results are too few to tell: it takes 6 at least"),
        ((5, 5), 1, [0.5] * 25, "All results are the same"),
        ((1, 1), 9, None, "No parameter took two values"),
    ],
)
def test_what_cannot_be_estimated(sizes: tuple[int, int], repeats: int, values: list[float] | None, words: str) -> None:
    varied, rows = grid(*sizes, repeats=repeats)
    found = importance(varied, rows, values or [float(index) for index in range(len(rows))])
    assert found.shares == []
    assert words in str(found.missing)


def test_expressions_are_not_counted() -> None:
    rows = [row(first=index % 5, second=2 * (index % 5)) for index in range(30)]
    varied = swept({"first": {"grid": [0, 1, 2, 3, 4]}, "second": {"expression": "first * 2"}}, rows)
    found = importance(varied, rows, [float(index % 5 + index / 100) for index in range(30)])
    assert list(shares(found)) == ["first"]
