from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import InvalidInput
from service.specs.parts import Resources
from service.specs.quantities import parse_duration, parse_workers
from service.specs.train import TrainSpec


def make(**changes: Any) -> TrainSpec:
    return TrainSpec.model_validate({"model": "cnn", "dataset": "digits", "epochs": 1, **changes})


def test_is_frozen() -> None:
    with pytest.raises(ValidationError):
        make().batch = 3  # type: ignore[misc]


@given(st.integers(1, 4096), st.integers(0, 4096), st.integers(1, 600))
def test_a_document_gives_the_same_spec_again(fewest: int, more: int, batch: int) -> None:
    try:
        spec = make(workers=f"{fewest}-{min(fewest + more, 4096)}", batch=batch)
    except ValidationError:
        return
    assert TrainSpec.model_validate(spec.document()) == spec
    assert all(batch % count == 0 and fewest <= count <= fewest + more for count in spec.worker_counts)


def test_the_document_writes_workers_as_a_person_does() -> None:
    assert make(workers=2).document()["workers"] == 2
    assert make(workers="2-8").document()["workers"] == "2-8"


@pytest.mark.parametrize(("value", "pair"), [(3, (3, 3)), ("3", (3, 3)), ("2-8", (2, 8)), (" 2 - 8 ", (2, 8))])
def test_parses_workers(value: Any, pair: tuple[int, int]) -> None:
    assert parse_workers(value) == pair


@pytest.mark.parametrize("value", ["", "x", "2-", "-2", "2-8-9", "1.5", "2 8", True, "9" * 9])
def test_refuses_workers_that_are_none(value: Any) -> None:
    with pytest.raises(ValueError, match="workers must be"):
        parse_workers(value)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_parses_durations(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@pytest.mark.parametrize("value", ["", "h", "2x", "1h 30", "1:30", "-2h", "2hh"])
def test_refuses_durations_that_are_none(value: str) -> None:
    with pytest.raises(ValueError, match="a duration must look like"):
        parse_duration(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"epochs": -1},
        {"epochs": 1.5},
        {"epochs": True},
        {"epochs": None},
        {"steps": 3},
        {"batch": 10**13},
        {"seed": 2**31},
        {"precision": "float64"},
        {"model": "nets:"},
        {"model": "../nets:build"},
        {"model": "CNN"},
        {"workers": 3, "batch": 128},
        {"workers": 129, "batch": 128},
        {"workers": 0},
        {"workers": "8-2"},
        {"workers": 5000, "batch": 5000},
        {"worker": {"cpus": 0}},
        {"worker": {"gpus": 2}},
        {"worker": {"gpus": 0.5}, "workers": 2},
        {"evaluate": {"validation": 1.0}},
        {"checkpoint": {"every_epochs": 1, "every_steps": 5}},
        {"early_stopping": {"restore_best": True}, "checkpoint": {"keep_best": 0}},
        {"early_stopping": {"metric": "val_loss"}, "evaluate": {"validation": 0}},
        {"label_smoothing": float("nan")},
        {"time_limit": 0},
        {"retries": -1},
        {"colour": "red"},
        {"training_examples": 0},
        {"init_from": "../base"},
        {"init_from": "Base"},
        {"init_from": "weights.h5"},
        {"init_from": "weights.pkl"},
        {"freeze": "conv2d*"},
        {"package_data": "/etc/passwd"},
        {"package_data": ["mine/../../x"]},
        {"package_data": ["~/x"]},
        {"package_data": ["mine\\x"]},
        {"package_data": [" "]},
        {"package_data": 3},
        {"init_from": "base", "freeze": [""]},
        {"init_from": "base", "freeze": ["c"] * 101},
    ],
)
def test_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, InvalidInput)):
        make(**changes)


def test_a_range_of_workers_keeps_those_that_share_out_the_batch() -> None:
    assert make(workers="2-8", batch=96).worker_counts == (8, 6, 4, 3, 2)


def test_knows_a_users_own_model() -> None:
    assert make(model="my_package.nets:build").user_module == "my_package.nets"
    assert make().user_module is None


@pytest.mark.parametrize("source", ["base", "runs/base/model.keras", "nets/a.safetensors"])
def test_first_weights_come_from_a_run_or_a_file(source: str) -> None:
    spec = make(init_from=source, freeze="conv2d*")
    assert (spec.init_from, spec.freeze) == (source, ("conv2d*",))
    assert TrainSpec.model_validate(spec.document()) == spec


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * 2**30), ("800MB", 800_000_000), ("1.5G", 1_500_000_000), ("2 Ki", 2048), ("77", 77), (77, 77)],
)
def test_parses_sizes(text: str | int, size: int) -> None:
    assert Resources(memory=text).memory == size


@pytest.mark.parametrize("text", ["", "GiB", "4 PB", "-4GiB", "0", "4GiB4", True])
def test_refuses_sizes_that_are_none(text: object) -> None:
    with pytest.raises(ValidationError):
        Resources.model_validate({"memory": text})


def test_a_space_is_a_name_or_a_mapping() -> None:
    assert make().document()["space"] == "weight"
    assert make(space="target").space.ridge == 0.001
    spec = make(space={"name": "target", "ridge": 0.1, "cascade": "ocu", "realisation_length": 20})
    assert (spec.space.cascade, spec.space.realisation_length) == ("ocu", 20)
    assert TrainSpec.model_validate(spec.document()) == spec


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"name": "weight", "ridge": 0.1}, "space.ridge is a key of target space"),
        ({"ridge": 0.1}, "space.ridge is a key of target space"),
        ({"name": "target", "ridge": 0}, "greater than 0"),
        ({"name": "target", "cascade": "both"}, "'scu' or 'ocu'"),
        ({"name": "target", "lambda": 0.1}, "lambda"),
        ("function", "'weight' or 'target'"),
    ],
)
def test_refuses_spaces_that_are_none(space: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make(space=space)


def test_target_space_needs_float32() -> None:
    with pytest.raises(ValidationError, match="precision=float32"):
        make(space="target", precision="bfloat16")


def test_random_targets_would_throw_first_weights_away() -> None:
    for space in ("target", {"name": "target", "initial": "random"}):
        with pytest.raises(ValidationError, match=r"init_from gives: use -s space\.initial=weights, or leave init_from out"):
            make(space=space, init_from="base")
    spec = make(space={"name": "target", "initial": "weights"}, init_from="base")
    assert TrainSpec.model_validate(spec.document()) == spec
    assert make(init_from="base").space.name == "weight"


def test_arguments_may_be_expressions_of_the_spec() -> None:
    values = {"model": "simple-rnn", "dataset": "bits", "task": "bit-memory", "epochs": 1}
    rate = {"name": "adam", "learning_rate": {"name": "cosine", "initial": {"expression": "0.3 / (dataset_params.delay + 10)"}}}
    params = {"units": {"expression": "dataset_params.delay + 3"}}
    spec = TrainSpec.model_validate({**values, "dataset_params": {"delay": 50}, "optimizer": rate, "model_params": params})
    assert spec.model_arguments == {"units": 53}
    assert spec.optimizer_arguments == {"learning_rate": {"name": "cosine", "initial": 0.005}}
    assert spec.document()["model_params"] == params


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_params": {"dropout": {"expression": "1 / batches"}}}, "needs 'batches', which has no value here"),
        ({"optimizer": {"name": "adam", "learning_rate": {"expression": "0 * batch"}}}, "above 0"),
        ({"optimizer": {"name": "adam", "learning_rate": {"expression": "os.system(1)"}}}, "more than arithmetic"),
    ],
)
def test_refuses_expressions_in_one_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainSpec.model_validate({"model": "cnn", "dataset": "digits", "epochs": 1, **changes})


def test_package_data_is_a_pattern_or_several() -> None:
    assert make(package_data="mine/*.txt").package_data == ("mine/*.txt",)
    assert make(package_data=["mine/a.txt", "b/**/*.json"]).document()["package_data"] == ["mine/a.txt", "b/**/*.json"]


@pytest.mark.parametrize(
    ("value", "kept"), [(None, "off"), (False, "off"), ("off", "off"), ("None", "off"), ("30m", 1800.0), (90, 90.0), (1, 1.0)]
)
def test_stall_limit_is_a_time_or_off_and_stays_so_in_the_store(value: Any, kept: Any) -> None:
    spec = TrainSpec.model_validate({"model": "cnn", "dataset": "digits", "epochs": 1, "stall_limit": value})
    assert spec.stall_limit == kept
    assert TrainSpec.model_validate(spec.document()).stall_limit == kept


@pytest.mark.parametrize("value", [0, -1, True, "soon", 1e12, [3]])
def test_other_stall_limits_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"stall_limit|duration"):
        TrainSpec.model_validate({"model": "cnn", "dataset": "digits", "epochs": 1, "stall_limit": value})
