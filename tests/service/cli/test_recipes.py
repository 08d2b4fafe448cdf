from collections.abc import Callable
from typing import Any

from service import recipes

Delayline = Callable[..., Any]


def test_lists_all_recipes(delayline: Delayline) -> None:
    assert [row["name"] for row in delayline("recipes", "--json").document] == recipes.names()
    text = delayline("recipes").out
    assert all(name in text for name in recipes.names())


def test_shows_one_with_its_spec(delayline: Delayline) -> None:
    assert delayline("recipes", "cnn-mnist", "--json").document["spec"]["dataset"] == "mnist"
    assert "dataset: mnist" in delayline("recipes", "cnn-mnist").out


def test_an_unknown_one_is_refused(delayline: Delayline) -> None:
    done = delayline("recipes", "cnn-mnits")
    assert (done.code, done.out) == (2, "")
    assert "did you mean 'cnn-mnist'" in done.err
