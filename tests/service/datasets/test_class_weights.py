"""Weights of classes and examples that a spec, a task or a dataset cannot have are refused by the plan, in one sentence."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.datasets.class_weights import check_weights_of, number_of_class
from service.datasets.manifest import Feature, Manifest
from service.errors import InvalidInput
from service.recipes.validation import validate

PETS = Manifest(
    "pets",
    "1",
    (Feature("image", "uint8", (4, 4, 3), 255.0), Feature("w", "float32", ()), Feature("pair", "float32", (2,))),
    ("cat", "dog", "7"),
    {"train": 9, "test": 9},
)
RUN: dict[str, Any] = {"model": "cnn", "dataset": "pets", "epochs": 1}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"class_weight": {"catt": 2}},
            r"class_weight names the class 'catt' \(did you mean 'cat'\?\), but pets has cat, dog, 7: use",
        ),
        ({"class_weight": {3: 2}}, "class_weight names the class '3', but pets has cat"),
        ({"class_weight": {0: 2, "cat": 1}}, "class_weight gives the class 'cat' twice, as 0 and cat"),
        ({"class_weight": "balance"}, "The spec's class_weight is not valid: it must be balanced or numbers by class, such as"),
        ({"class_weight": {"cat": -1}}, "the weight of 'cat' must be a finite number of at least 0, not '-1'"),
        ({"class_weight": {"cat": 0, "dog": 0.0}}, "some weight must be above 0"),
        (
            {"sample_weight": "v"},
            "sample_weight is 'v'.*, but pets has the features image, w, pair: import it with one number for",
        ),
        ({"sample_weight": "pair"}, r"sample_weight is 'pair', which has the shape \(2,\), but it must be one number"),
        ({"sample_weight": 3}, "The spec's sample_weight is 3, but must be a text"),
        (
            {
                "class_weight": "balanced",
                "task": "bit-memory",
                "dataset": "bits",
                "dataset_params": {"delay": 3, "variant": "recall"},
            },
            "class_weight weighs examples that have one label each, but the task",
        ),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_weights_of(validate({**RUN, **keys}), PETS)


@pytest.mark.parametrize("keys", [{"class_weight": {"dog": 2, 0: 0.5}}, {"class_weight": "balanced", "sample_weight": "w"}, {}])
def test_what_can_be_is_taken_and_kept(keys: dict[str, Any]) -> None:
    spec = validate({**RUN, **keys})
    check_weights_of(spec, PETS)
    assert validate(spec.document()) == spec


@given(st.lists(st.text(max_size=3), min_size=1, max_size=5, unique=True), st.data())
def test_a_class_is_found_by_its_name_whatever_it_is(classes: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(classes))
    number = number_of_class(name, classes)
    assert number is not None
    assert classes[number] == name
