"""The parameters of generated datasets, before anything is generated."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.registry import Task
from service.specs import generated as module
from service.specs.generated import BitSequences, check_generated, generated, is_bits_task, suggested_parameters
from service.specs.train import TrainSpec


def test_a_length_and_a_width_follow_from_the_delay() -> None:
    assert generated("bits", {}) == BitSequences(20, 70, 400, "recall", False)
    assert generated("bits@philox-1", {"delay": 60, "length": None}) == BitSequences(60, 110)
    assert suggested_parameters("bits", {"delay": 60}) == {"units": 63, "longest": 120}
    assert suggested_parameters("bits", {"delay": 60, "variant": "adder"})["units"] == 65
    assert suggested_parameters("digits", {}) == {}


@given(delay=st.integers(1, 1000), length=st.integers(2, 1000))
def test_a_delay_is_shorter_than_its_sequence(delay: int, length: int) -> None:
    if delay < length:
        made = generated("bits", {"delay": delay, "length": length})
        assert made is not None and (made.delay, made.length) == (delay, length)
    else:
        with pytest.raises(InvalidInput, match=f"delay={delay} leaves nothing to recall in sequences of {length} steps: use"):
            generated("bits", {"delay": delay, "length": length})


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"delay": 0}, "delay is '0', but it must be a whole number from 1 to 100000000"),
        ({"delay": -3}, "delay"),
        ({"delay": 2.5}, "delay is '2.5'"),
        ({"delay": True}, "delay is 'True'"),
        ({"delay": "ten"}, "delay is 'ten'"),
        ({"length": 0}, "length is 0, but it must be a whole number of at least 2"),
        ({"length": 1}, "length is '1', but it must be a whole number from 2 to"),
        ({"length": 2}, "use a delay of at most 1,"),
        ({"length": False}, "length"),
        ({"length": 20}, "use a delay of at most 19"),
        ({"length": 200_000}, "too long"),
        ({"sequences": 0}, "sequences"),
        ({"sequences": 10**7}, "at most 1428571 sequences; with dataset_params.fresh=true they are others each epoch"),
        ({"sequences": 10**7, "fresh": True}, r"at most 1428571 sequences\.$"),
        ({"sequences": 10**30}, "sequences"),
        ({"variant": "and"}, "recall or xor or adder"),
        ({"variant": ["recall"]}, "variant"),
        ({"fresh": 1}, "true or false"),
        ({"dealy": 3, "colour": 1}, "no parameter 'dealy', 'colour'; it takes delay, length, sequences, variant, fresh"),
    ],
)
def test_wrong_parameters_are_refused_in_one_sentence(params: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        TrainSpec(model="lstm", dataset="bits", task="bit-memory", dataset_params=params, epochs=1)
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")


@pytest.mark.parametrize("dataset", ["digits", "mnist@abc", "anything"])
def test_other_datasets_take_no_parameters(dataset: str) -> None:
    assert generated(dataset, {"delay": None}) is None
    with pytest.raises(InvalidInput, match="takes no dataset_params, but 'colour' is given"):
        TrainSpec(model="cnn", dataset=dataset, dataset_params={"colour": 1}, epochs=1)


def test_bits_and_their_task_go_together() -> None:
    for task in ("bit-memory", "bit_memory"):
        check_generated("bits", {}, task)
    with pytest.raises(InvalidInput, match="for the task 'bit-memory', not 'classification'"):
        TrainSpec(model="lstm", dataset="bits", epochs=1)
    with pytest.raises(InvalidInput, match="for the dataset 'bits', not 'digits'"):
        TrainSpec(model="lstm", dataset="digits", task="bit_memory", epochs=1)


def test_any_task_may_be_for_the_bits_and_says_so_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_bits_task("bit-memory") and is_bits_task("bit_memory")
    assert not (is_bits_task("classification") or is_bits_task("absent"))
    known = {"parity": Task(("accuracy",), dataset="bits")}
    monkeypatch.setattr(module, "tasks", lambda: known)
    monkeypatch.setattr(module, "task_named", known.get)
    check_generated("bits", {}, "parity")
    with pytest.raises(InvalidInput, match="is for the task 'parity', not 'bit-memory': use -s task=parity"):
        check_generated("bits", {}, "bit-memory")
