import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.recipes import sweeps
from service.specs.sweep import SweepSpec
from service.sweeps.points import UNBOUNDED, Points

BASE = {"model": "lenet5", "dataset": "digits", "epochs": 2, "seed": 5, "optimizer": {"name": "adam", "learning_rate": 0.001}}


def sweep(space: dict[str, Any], **keys: Any) -> SweepSpec:
    base = keys.pop("base", [{"name": "small", "values": BASE}])
    return SweepSpec.model_validate({"base": base, "space": space, **keys})


def points(space: dict[str, Any], **keys: Any) -> Points:
    return Points(sweep(space, **keys))


def params(of: Points) -> list[dict[str, Any]]:
    return [of.point(number).params for number in range(of.count)]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_grid_is_gone_through_once_in_the_order_of_nested_loops(sizes: list[int]) -> None:
    space = {f"model_params.p{index}": {"grid": list(range(size))} for index, size in enumerate(sizes)}
    found = [tuple(point.values()) for point in params(points(space))]
    assert found == sorted(found)
    assert len(set(found)) == math.prod(sizes)


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(1, 50))
def test_a_part_of_a_grid_has_no_point_twice_and_is_the_same_again(first: int, second: int, trials: int) -> None:
    space = {"batch": {"grid": list(range(1, first + 1))}, "epochs": {"grid": list(range(1, second + 1))}}
    found = params(points(space, trials=trials))
    assert len(found) == min(trials, first * second)
    assert len({json.dumps(point) for point in found}) == len(found)
    assert found == params(points(space, trials=trials))


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.lists(st.none() | st.integers(1, 40), min_size=2, max_size=5),
    st.booleans(),
    st.booleans(),
)
def test_other_trials_continue_the_same_sequence(
    first: int, second: int, trials: list[int | None], drawn: bool, random: bool
) -> None:
    space: dict[str, Any] = {"batch": {"grid": list(range(1, first + 1))}, "epochs": {"grid": list(range(1, second + 1))}}
    bases = [{"name": name, "values": BASE} for name in ("one", "other")]
    begun = sweep(
        {**space, **(RATE if drawn else {})},
        base=bases,
        trials=trials[0],
        **({"search": "random", "budget": 9} if random else {}),
    )
    order = begun.order
    for more in trials[1:]:
        on = sweeps.change(begun, [f"trials={'null' if more is None else more}"])
        some, fewer = Points(on), Points(begun)
        assert on.order == order
        assert all(some.point(number) == fewer.point(number) for number in range(50))
    if not random:
        size = first * second * 2
        chosen = [
            json.dumps([point.base, *(point.params[key] for key in space)]) for point in map(Points(begun).point, range(size))
        ]
        assert len(set(chosen)) == size


def test_a_part_of_a_grid_is_spread_and_the_whole_of_it_nested() -> None:
    space = {"batch": {"grid": [1, 2, 3]}, "epochs": {"grid": [1, 2, 3]}}
    assert [sweep(space, **keys).order for keys in ({}, {"budget": 9}, {"trials": 9}, {"trials": 8}, {"trials": 17, "seeds": 2})] == [
        "nested", "nested", "nested", "spread", "spread",
    ]  # fmt: skip
    assert sweep({"batch": {"grid": [1]}}, trials=1).order is None
    assert params(points(space, trials=4, order="nested")) == params(points(space))[:4]


def test_draws_lie_within_their_ranges_and_depend_on_the_seed_and_the_number_alone() -> None:
    space = {
        "optimizer.learning_rate": {"loguniform": [1e-4, 1e-2]},
        "model_params.dropout": {"uniform": [0.1, 0.5]},
        "batch": {"integers": [8, 64]},
        "precision": {"choice": ["float32", "bfloat16"]},
    }
    some = points(space, search="random", trials=200)
    found = params(some)
    rates = [point["optimizer.learning_rate"] for point in found]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 70 <= sum(rate < 1e-3 for rate in rates) <= 130
    assert all(0.1 <= point["model_params.dropout"] <= 0.5 for point in found)
    assert {point["batch"] for point in found} <= set(range(8, 65))
    assert {point["precision"] for point in found} == {"float32", "bfloat16"}
    assert some.point(150) == points(space, search="random", trials=1000).point(150)
    assert some.point(0) != points(space, search="random", trials=200, seed=1).point(0)


def test_a_grid_with_draws_is_repeated_with_new_ones_up_to_the_trials() -> None:
    space = {"batch": {"grid": [16, 32]}, "optimizer.learning_rate": {"loguniform": [1e-4, 1e-2]}}
    assert points(space).count == 2
    found = params(points(space, trials=14, seeds=2))
    assert [point["batch"] for point in found] == [16, 32, 16, 32, 16, 32, 16]
    assert len({point["optimizer.learning_rate"] for point in found}) == 7


def test_expressions_know_the_base_and_each_other() -> None:
    space = {
        "model_params.units": {"expression": "batch + epochs"},
        "batch": {"expression": "model_params.half * 2"},
        "model_params.half": {"grid": [4, 8]},
    }
    assert [point["model_params.units"] for point in params(points(space))] == [10, 18]
    assert list(points(space).point(0).params) == list(space)
    with pytest.raises(InvalidInput, match=r"needs 'dataset_params.delay'"):
        points({"batch": {"expression": "dataset_params.delay + 3"}}).point(0)


def test_expressions_know_what_a_swept_mapping_holds_and_not_what_it_replaces() -> None:
    values = {
        "model": "simple-rnn",
        "dataset": "bits",
        "task": "bit-memory",
        "epochs": 2,
        "dataset_params": {"delay": 20, "sequences": 90},
    }
    base = [{"name": "bits", "values": values}]
    units = {"model_params.units": {"expression": "dataset_params.delay + 3"}}
    some = points({"dataset_params": {"grid": [{"delay": 5}, {"delay": 10}]}, **units}, base=base)
    assert [some.spec(some.point(number)).model_params for number in range(2)] == [{"units": 8}, {"units": 13}]
    for key, space in (
        ("dataset_params.sequences", {"dataset_params": {"grid": [{"delay": 5}]}}),
        ("epochs", {"steps": {"grid": [7]}}),
    ):
        with pytest.raises(InvalidInput, match=f"needs '{key}', which has no value here"):
            points({**space, "model_params.units": {"expression": key}}, base=base).point(0)


def test_every_base_is_tried_at_every_point() -> None:
    bases = [{"name": name, "values": {**BASE, "model": name}} for name in ("lenet5", "cnn")]
    some = points({"batch": {"grid": [16, 32]}}, base=bases)
    assert [(some.point(n).base, some.point(n).params["batch"]) for n in range(some.count)] == [
        ("lenet5", 16), ("cnn", 16), ("lenet5", 32), ("cnn", 32),
    ]  # fmt: skip
    assert some.spec(some.point(1)).model == "cnn"


def test_a_trials_spec_is_the_base_with_the_points_values_and_the_next_seed() -> None:
    some = points({"optimizer.learning_rate": {"grid": [0.1]}, "model_params.units": {"grid": [7]}}, seeds=3, workers=2)
    spec = some.spec(some.point(0), seed=2)
    assert spec.seed == 7
    assert spec.workers == (2, 2)
    assert spec.optimizer.arguments == {"learning_rate": 0.1}
    assert spec.model_params == {"units": 7}


@pytest.mark.parametrize("keys", [{"search": "random"}, {"search": "tpe"}])
def test_draws_need_an_end(keys: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="budget"):
        _ = points({"batch": {"choice": [8, 16]}}, **keys).count


def test_fewer_trials_than_a_point_has_seeds_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"trials: 2 is less than one point takes.*3 seeds.*at least trials: 3"):
        _ = points({"batch": {"grid": [8, 16]}}, trials=2, seeds=3).count
    assert points({"batch": {"grid": [8, 16]}}, trials=5, seeds=3).count == 1


def test_draws_alone_continue_until_the_budget_ends_without_a_word_of_the_search() -> None:
    assert points(RATE, budget="30m").count == UNBOUNDED
    assert points(RATE, budget="30m", trials=7).count == 7
    with pytest.raises(InvalidInput, match="A space without a grid draws points without end: give trials: 40, or a budget"):
        _ = points(RATE).count
    assert points({**RATE, "batch": {"grid": [8, 16]}}, budget="30m").count == 2
    assert points({"batch": {"expression": "epochs * 8"}}).count == 1


def test_a_grid_that_nobody_waits_for_asks_for_a_budget() -> None:
    space = {f"model_params.p{index}": {"grid": list(range(1000))} for index in range(3)}
    with pytest.raises(InvalidInput, match=r"1,000,000,000 grid points.*budget"):
        _ = points(space).count
    some = points(space, budget="30m")
    assert some.point(0) != some.point(1)
    assert points(space, trials=5).count == 5


def test_the_corners_hold_every_listed_value_and_both_ends() -> None:
    some = points(
        {"batch": {"grid": [1, 2]}, "epochs": {"integers": [3, 9]}, "seed": {"choice": [5, 6]}}, trials=1, search="random"
    )
    corners = [corner.params for corner in some.corners()]
    for key, values in (("batch", {1, 2}), ("epochs", {3, 9}), ("seed", {5, 6})):
        assert values <= {corner[key] for corner in corners}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base: no-such\nspace: {}\n", "no recipe 'no-such'"),
        ("space: {batch: {grid: [1]}}\n", "no 'base'"),
        ("base: cnn-digits\nspace: {batch: {grid: []}}\n", "space.batch.grid is [], but must be a list of at least 1;"),
        ("base: cnn-digits\nspace: {batch: {}}\n", "exactly one of"),
        ("base: cnn-digits\nspace: {batch: {grid: [1], choice: [1]}}\n", "exactly one of"),
        ("base: cnn-digits\nspace: {batch: {grid: [8, 8]}}\n", "appears twice"),
        ("base: cnn-digits\nspace: {batch: {gird: [8]}}\n", "Unknown key 'space.batch.gird'"),
        ("base: cnn-digits\nspace: {batch: {uniform: [2, 1]}}\n", "lower and a higher end"),
        ("base: cnn-digits\nspace: {batch: {loguniform: [0, 1]}}\n", "above 0"),
        ("base: cnn-digits\nspace: {seed: {grid: [1, 2]}}\nseeds: 2\n", "contradict"),
        ("base: cnn-digits\nspace: {workers: {grid: [1, 2]}}\n", "cannot vary"),
        ("base: cnn-digits\nspace: {optimizer: {grid: [sgd]}, optimizer.name: {grid: [adam]}}\n", "cannot both vary"),
        ("base: cnn-digits\nspace: {batch: {expression: epochs + 1}, epochs: {expression: batch + 1}}\n", "in a circle"),
        ("base: [cnn-digits, cnn-digits]\nspace: {batch: {grid: [8]}}\n", "twice"),
        ("base: 3\nspace: {batch: {grid: [8]}}\n", "must be a recipe's name"),
        ("base: sweep-digits\nspace: {batch: {grid: [8]}}\n", "is a sweep"),
        ("base: cnn-digits\nspace: {batch: {grid: [8]}}\nscheduler: {name: fifo}\n", "scheduler.name"),
        ("model: cnn\ndataset: digits\nepochs: 1\n", "is the spec of one run"),
    ],
)
def test_refuses_what_makes_no_sense(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(InvalidInput) as raised:
        sweeps.resolve("sweep.yaml", [], None, tmp_path)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("space", ["[1, 2]", "hello"])
def test_a_change_within_a_space_that_is_no_mapping_is_refused(space: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(f"base: cnn-digits\nspace: {space}\n")
    with pytest.raises(InvalidInput, match=r"The sweep's space is '.*', but must be a mapping of keys"):
        sweeps.resolve("sweep.yaml", ["space.batch={grid: [8, 16]}"], None, tmp_path)


def test_changes_reach_the_base_the_space_and_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: lenet5\ndataset: digits\nepochs: 9\n")
    (tmp_path / "sweep.yaml").write_text("base: [cnn-digits, mine.yaml]\nspace: {batch: {grid: [8, 16]}}\nscheduler: asha\n")
    overrides = ["base.epochs=3", "seeds=2", "space.optimizer.learning_rate={grid: [0.1]}", "space.batch=null"]
    spec, stem = sweeps.resolve("sweep.yaml", overrides, "2", tmp_path)
    assert stem == "sweep"
    assert [base.name for base in spec.base] == ["cnn-digits", "mine"]
    assert [base.values["epochs"] for base in spec.base] == [3, 3]
    assert (spec.seeds, list(spec.space), spec.workers, spec.scheduler.name) == (2, ["optimizer.learning_rate"], (2, 2), "asha")
    assert SweepSpec.model_validate(spec.document()) == spec
    assert sweeps.change(spec, ["trials=7"]).trials == 7


RATE = {"optimizer.learning_rate": {"loguniform": [1e-4, 1e-1]}}


def test_a_population_may_vary_what_can_change_in_the_middle_of_a_run() -> None:
    space = {
        **RATE,
        "optimizer.weight_decay": {"expression": "optimizer.learning_rate / 10"},
        "label_smoothing": {"choice": [0.0, 0.1]},
        "model_params.dropout": {"uniform": [0, 0.5]},
    }
    made = sweep(space, search="random", trials=4, scheduler="pbt")
    assert (made.scheduler.quantile, made.scheduler.resample, made.scheduler.learns_again) == (0.25, 0.25, False)
    schedule = {"optimizer.learning_rate.initial": {"grid": [0.1, 0.01]}, "optimizer.momentum": {"grid": [0.8, 0.9]}}
    assert sweep(schedule, scheduler={"name": "pbt", "quantile": 0.5}).scheduler.quantile == 0.5


@pytest.mark.parametrize(
    ("space", "keys", "words"),
    [
        ({"model_params.units": {"grid": [8, 16]}}, {}, "space.model_params.units cannot: it can vary optimizer.learning_rate"),
        ({"batch": {"grid": [8, 16]}}, {}, "space.batch cannot"),
        ({"epochs": {"expression": "batch"}}, {}, "space.epochs cannot"),
        ({"optimizer.name": {"grid": ["adam", "sgd"]}}, {}, "space.optimizer.name cannot"),
        ({"optimizer.learning_rate": {"grid": [0.1, {"name": "cosine"}]}}, {}, "space.optimizer.learning_rate lists"),
        ({"optimizer.momentum": {"grid": [0, 0.9]}}, {}, "space.optimizer.momentum lists 0"),
        (RATE, {"search": "tpe", "trials": 4}, "use search: random"),
        (RATE, {"search": "random", "budget": "1h"}, "give trials"),
        (RATE, {"budget": "1h"}, "give trials"),
        (RATE, {"search": "random", "trials": 4, "seeds": 2}, "leave seeds out"),
        (RATE, {"search": "random", "trials": 4, "workers": 2}, "trials of one worker"),
        (RATE, {"trials": 4, "base": [{"name": name, "values": BASE} for name in "ab"]}, "give one base, not 2"),
        (
            RATE,
            {"trials": 4, "base": [{"name": "a", "values": {**BASE, "checkpoint": {"every_epochs": 2}}}]},
            "use base.checkpoint={every_epochs: 1}",
        ),
        (
            RATE,
            {"trials": 4, "base": [{"name": "a", "values": {**BASE, "checkpoint": {"every_steps": 5}}}]},
            "use base.checkpoint={every_epochs: 1}",
        ),
    ],
)
def test_what_a_population_cannot_do_is_refused_in_a_sentence(space: dict[str, Any], keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="pbt") as raised:
        sweep(space, scheduler="pbt", **keys)
    assert words in str(raised.value)
