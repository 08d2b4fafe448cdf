"""What varied in a sweep, and the files to begin from again."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from matplotlib.text import Text
from support.answered_rows import trial_row
from support.sweeps_in_a_store import DELAYS, DRAWN, SETTLED, VERSIONS, write_sweep

from jobs.reports.sweep import charts as sweep_charts
from jobs.reports.sweep.axes import dimensions, labels, shown
from jobs.reports.sweep.charts import evenly, series, split_of
from jobs.reports.sweep.facts import MOST_CURVES, drawn_trials, gather_sweep
from jobs.reports.sweep.recipe_files import best_recipe, sweep_recipe
from service import recipes
from service.recipes import sweeps
from service.specs.sweep import SweepSpec
from service.storage.local import LocalStore
from service.sweeps.trials import best_of, point_rows, trial_rows

BASE = [{"name": "only", "values": {"model": "dense", "dataset": "digits", "epochs": 1}}]


def varied(space: dict[str, Any], *params: dict[str, Any]) -> list[Any]:
    sweep = SweepSpec.model_validate({"base": BASE, "space": space, "search": "random", "trials": 1})
    return dimensions(sweep, [trial_row(base="only", params=each) for each in params])


@pytest.mark.parametrize(
    ("parameter", "values", "log"),
    [
        ({"loguniform": [1e-5, 1e-1]}, [0.001, 0.002], True),
        ({"uniform": [0, 1]}, [0.001, 0.9], False),
        ({"grid": [1, 10, 100]}, [1, 10, 100], True),
        ({"grid": [1, 10, 99]}, [1, 10, 99], False),
        ({"grid": [0, 10, 1000]}, [0, 10, 1000], False),
        ({"integers": [1, 500]}, [1, 400], False),
    ],
)
def test_which_axis_is_logarithmic(parameter: dict[str, Any], values: list[float], log: bool) -> None:
    (found,) = varied({"key": parameter}, *({"key": value} for value in values))
    assert (found.numeric, found.log) == (True, log)
    places = [found.place(value) for value in found.values]
    assert (places[0], places[-1]) == (0.0, 1.0)
    assert places == sorted(places)


def test_what_is_no_number_keeps_its_order_and_what_does_not_vary_is_left_out() -> None:
    space = {"kind": {"choice": ["b", "a", True, 1]}, "same": {"grid": [3]}}
    (found,) = varied(space, *({"kind": kind, "same": 3} for kind in ("b", True, 1, "b", "a")))
    assert found.values == ["b", True, 1, "a"]
    assert not found.numeric
    assert [found.place(value) for value in found.values] == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_labels_tell_keys_apart() -> None:
    assert labels(["a.delay", "b.delay", "optimizer.learning_rate", "optimizer.name", "base"]) == {
        "a.delay": "a.delay",
        "b.delay": "b.delay",
        "optimizer.learning_rate": "learning_rate",
        "optimizer.name": "optimizer.name",
        "base": "base",
    }
    assert [shown(value) for value in (0.0030000001, 1e-5, 64, "relu", {"a": 1}, True)] == [
        "0.003",
        "1e-05",
        "64",
        "relu",
        '{"a": 1}',
        "true",
    ]


@given(st.integers(2, 2000), st.integers(2, 300))
def test_what_is_thinned_keeps_its_ends_and_its_order(count: int, most: int) -> None:
    kept = evenly(range(count), most)
    assert len(kept) == min(count, most)
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert list(kept) == sorted(set(kept))


def test_a_line_for_each_network_with_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    facts = gather_sweep(write_sweep(LocalStore(tmp_path), states={4: "failed"}))
    found = dimensions(facts.sweep, facts.trials)
    rows = [(row, value) for row in facts.trials if (value := facts.value(row)) is not None]
    lines = series(facts, found[1], split_of(found), rows)
    assert [line.label for line in lines] == [base["name"] for base in DELAYS["base"]]
    points = {(point.base, point.params["dataset_params.delay"]): point for point in facts.points}
    for line in lines:
        assert [x for x, _, _ in line.means] == DELAYS["space"]["dataset_params.delay"]["grid"]
        for x, mean, spread in line.means:
            point = points[line.label, x]
            assert (mean, spread) == (pytest.approx(point.mean), pytest.approx(point.spread))
    assert sum(len(line.dots) for line in lines) == 71


def test_lines_are_at_most_as_many_as_colours() -> None:
    params = [{"a": f"a{n % 5}", "b": f"b{n % 3}", "n": n} for n in range(15)]
    space = {"a": {"choice": ["x"]}, "b": {"choice": ["x"]}, "n": {"integers": [0, 20]}}
    assert [each.label for each in split_of(varied(space, *params)).dimensions] == ["a"]
    few = [{"a": f"a{n % 2}", "b": f"b{n % 3}", "n": n} for n in range(15)]
    assert list(split_of(varied(space, *few)).labels.values()) == ["a0, b0", "a0, b1", "a0, b2", "a1, b0", "a1, b1", "a1, b2"]


@given(st.integers(0, 500))
def test_of_many_trials_the_best_and_some_others_are_drawn(count: int) -> None:
    rows = [trial_row(number=n, metrics={"loss": n}) for n in range(count)]
    drawn = [row.number for row in drawn_trials(rows, "loss")]
    assert len(drawn) == len(set(drawn)) == min(count, MOST_CURVES)
    assert drawn[:10] == list(range(min(count, 10)))
    assert drawn == sorted(drawn)


def test_facts_are_those_of_the_service(tmp_path: Path) -> None:
    record = write_sweep(LocalStore(tmp_path), states={3: "failed", 8: "running", 9: "queued"})
    facts = gather_sweep(record)
    rows = trial_rows(record.store, record.trials())
    assert facts.best == best_of(rows, "val_accuracy", "max")
    assert [point.point for point in facts.points] == [p.point for p in point_rows(rows, "val_accuracy", "max")]
    assert sorted(row.id for row in facts.trials) == sorted(row.id for row in rows)
    values = [facts.value(row) for row in facts.trials]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=True) == values[: len(known)]
    assert {row.state: row.epoch for row in facts.trials}["succeeded"] == 4


RECIPES = [name for name in recipes.names() if "spec" in recipes.describe(name)]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    "changes", [[], ["seed=7", "workers=1-4", "batch=64", "checkpoint.every_steps=5", "checkpoint.every_epochs=null"]]
)
def test_the_best_trial_as_a_file_is_its_very_spec(name: str, changes: list[str], tmp_path: Path) -> None:
    base, _ = recipes.resolve(name, changes, None, tmp_path)
    document = {**DELAYS, "base": [{"name": name, "values": base.document()}], "space": {"batch": {"grid": [64, 256]}}}
    document["workers"] = base.document()["workers"]
    facts = gather_sweep(write_sweep(LocalStore(tmp_path / "store"), spec=document, measure=lambda trial: 0.5))
    assert facts.best_run is not None
    (tmp_path / "best.yaml").write_text(best_recipe(facts.best_run))
    made, _ = recipes.resolve("best.yaml", [], None, tmp_path)
    pinned = base.dataset if base.dataset in VERSIONS else f"{base.dataset}@v1"
    assert made.document() == {**facts.best_run.spec, "dataset": pinned}


@pytest.mark.parametrize("spec", [DELAYS, {**DRAWN, "scheduler": "asha", "workers": 2}, SETTLED])
def test_the_sweep_as_a_file_is_its_very_spec(spec: dict[str, Any], tmp_path: Path) -> None:
    facts = gather_sweep(write_sweep(LocalStore(tmp_path / "store"), spec=spec, state="queued"))
    (tmp_path / "again.yaml").write_text(sweep_recipe(facts.sweep))
    made, stem = sweeps.resolve("again.yaml", [], None, tmp_path)
    bases = [
        {**base, "values": recipes.validation.validate(base["values"]).document()} for base in facts.sweep.document()["base"]
    ]
    assert (made.document(), stem) == ({**facts.sweep.document(), "base": bases}, "again")


@pytest.mark.parametrize("count", range(2, 8))
def test_the_legend_stays_below_the_title(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    found = []

    def overlap(figure: Any, *_: Any) -> Markup:
        figure.draw_without_rendering()
        (axes,) = figure.axes
        if legend := axes.get_legend():
            (title,) = (text for text in axes.findobj(Text) if text.get_text() == axes.get_title(loc="left"))
            found.append(legend.get_window_extent().y1 - title.get_window_extent().y0)
        return Markup()

    monkeypatch.setattr(sweep_charts, "to_svg", overlap)
    bases = [{**DELAYS["base"][0], "name": f"network-{number}"} for number in range(count)]
    facts = gather_sweep(write_sweep(LocalStore(tmp_path), spec={**DELAYS, "base": bases}))
    sweep_charts.charts(facts, dimensions(facts.sweep, facts.trials), 5)
    assert found
    assert max(found) <= 0
