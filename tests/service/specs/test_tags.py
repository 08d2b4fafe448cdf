from typing import Any

import pytest

from service.specs.sweep import SweepSpec
from service.specs.tags import kept_tags, without_tags
from service.specs.train import TrainSpec
from service.sweeps.grouping import group_key

RUN = {"model": "dense", "dataset": "digits", "epochs": 1}
SWEEP = {"base": [{"name": "a", "values": RUN}], "space": {"batch": {"grid": [32, 64]}}}
KINDS = [(TrainSpec, RUN), (SweepSpec, SWEEP)]


@pytest.mark.parametrize(("kind", "values"), KINDS)
def test_a_spec_keeps_its_tags_and_is_one_of_before_without_any(kind: Any, values: Any) -> None:
    tagged = kind.model_validate({**values, "tags": ["thesis", "lr-study"]})
    assert kind.model_validate(tagged.document()) == tagged
    assert tagged.document()["tags"] == ["thesis", "lr-study"]
    plain = kind.model_validate(values).document()
    assert "tags" not in plain
    assert without_tags(tagged.document()) == plain
    assert kind.model_validate({**values, "tags": "thesis"}).tags == ("thesis",)


def test_tags_of_a_sweeps_bases_are_no_part_of_what_it_is() -> None:
    tagged = SweepSpec.model_validate({**SWEEP, "base": [{"name": "a", "values": {**RUN, "tags": ["x"]}}]}).document()
    assert without_tags(tagged) == without_tags(SweepSpec.model_validate(SWEEP).document())


def test_trials_train_together_whatever_their_tags() -> None:
    small = {**RUN, "model": "elman", "dataset": "bits", "dataset_params": {"delay": 3}, "task": "bit-memory"}
    key = group_key(TrainSpec.model_validate(small))
    assert key is not None
    assert group_key(TrainSpec.model_validate({**small, "tags": ["x"]})) == key


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        (["Thesis"], "a tag is 'Thesis': use 1 to 64"),
        (["a b"], "lower-case letters"),
        ([""], "lower-case letters"),
        (["x" * 65], "65 characters|x{65}"),
        (["x", "x"], "appears twice"),
        ([f"t{number}" for number in range(17)], "17 tags, but 16 at most"),
        ([7], "string"),
    ],
)
@pytest.mark.parametrize(("kind", "values"), KINDS)
def test_other_tags_are_refused(kind: Any, values: Any, tags: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        kind.model_validate({**values, "tags": tags})
    assert kind.model_validate({**values, "tags": ["x" * 64, *(f"t{number}" for number in range(15))]})


def test_all_trials_of_a_sweep_have_the_tags_of_their_base() -> None:
    with pytest.raises(ValueError, match=r"space\.tags cannot vary"):
        SweepSpec.model_validate({**SWEEP, "space": {"tags": {"grid": [["a"], ["b"]]}}})


def test_tags_that_are_not_taken_over_are_named() -> None:
    assert kept_tags("The run 'a'", ["x"], []) is kept_tags("The run 'a'", ["x", "y"], ["y", "x"]) is None
    said = "The run 'a' keeps the tags that it was first submitted with, x; not changed to: y."
    assert kept_tags("The run 'a'", ["x"], ["y"]) == said
    assert "keeps no tags" in str(kept_tags("The run 'a'", [], ["y"]))
