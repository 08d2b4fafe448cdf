from pathlib import Path

import pytest
from support.datasets_in_a_store import make_dataset
from support.plans import spec_of

from service.checks.train import check_dataset, check_names
from service.errors import InvalidInput, UnknownName
from service.storage.base import Store


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model=cn", "did you mean 'cnn'"),
        ("model=huge", "no model 'huge'"),
        ("model_params.dropuot=0", "no parameter 'dropuot' .did you mean 'dropout'"),
        ("task=clasification", "classification"),
    ],
)
def test_an_unknown_name_is_refused(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_names(spec_of(override), tmp_path)


def test_a_model_that_gives_one_answer_is_refused_where_each_step_needs_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="one for each step: use elman or gru or jordan or lstm or simple-rnn"):
        check_names(spec_of("dataset=bits", "task=bit-memory"), tmp_path)


@pytest.mark.parametrize("model", ["lstm", "elman"])
def test_a_model_that_target_space_cannot_solve_is_refused(tmp_path: Path, model: str) -> None:
    with pytest.raises(InvalidInput, match=f"the model '{model}': use cnn or dense or lenet5 or simple-rnn, or space=weight"):
        check_names(spec_of(f"model={model}", "space=target"), tmp_path)


@pytest.mark.parametrize(
    ("model", "params", "words"),
    [
        ("lstm", "units: 0", "units is 0, but a width must be a positive whole number"),
        ("jordan", "units: 2.5", "units is 2.5"),
        ("elman", "units: true", "units is True"),
        ("gru", "units: [8, -1]", r"units is \[8, -1\]"),
        ("gru", "start: chrono", "start is 'chrono', but the model 'gru' takes constant or simple"),
        ("lstm", "start: chain", "takes constant or chrono or simple"),
        ("simple-rnn", "start: [chain]", "takes orthogonal or glorot or identity or chain"),
    ],
)
def test_a_width_and_a_start_that_a_recurrent_model_does_not_take_are_refused(
    tmp_path: Path, model: str, params: str, words: str
) -> None:
    bits = ("dataset=bits", "task=bit-memory", f"model={model}")
    check_names(spec_of(*bits, "model_params={units: {expression: batch // 2}}"), tmp_path)
    with pytest.raises(InvalidInput, match=words):
        check_names(spec_of(*bits, f"model_params={{{params}}}"), tmp_path)


@pytest.mark.parametrize("start", ["orthogonal", "glorot", "identity", "chain"])
def test_known_starts_are_planned(tmp_path: Path, start: str) -> None:
    check_names(
        spec_of("dataset=bits", "task=bit-memory", "model=simple_rnn", f"model_params={{units: [4, 5], start: {start}}}"),
        tmp_path,
    )


def test_target_space_is_planned_without_batch_normalisation_that_learns(tmp_path: Path) -> None:
    normalised = ("model=cnn", "model_params.batch_norm=true", "space.name=target")
    with pytest.raises(InvalidInput, match=r"use -s model_params\.batch_norm=false, or space=weight"):
        check_names(spec_of(*normalised), tmp_path)
    check_names(spec_of(*normalised, "space.initial=weights", "init_from=base", "freeze=all-but-head"), tmp_path)


@pytest.mark.parametrize("workers", ["2", "1-2"])
def test_batch_normalisation_of_several_workers_is_not_compiled(tmp_path: Path, workers: str) -> None:
    normalised = ("model=cnn", "model_params.batch_norm=true", "jit_compile=true")
    with pytest.raises(InvalidInput, match="use -s jit_compile=false, or workers=1"):
        check_names(spec_of(*normalised, f"workers={workers}"), tmp_path)
    check_names(spec_of(*normalised, "workers=1"), tmp_path)
    check_names(spec_of("model=cnn", "jit_compile=true", f"workers={workers}"), tmp_path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("input=stream", "nothing to stream: use -s input=auto"),
        ("augment=[{name: flip}]", r"no images for augment to change: use -s augment=\[\]"),
        ("space={name: target, realisation_length: 71}", "realisation_length is 71, but the sequences have 70 steps"),
    ],
)
def test_what_does_nothing_for_bits_is_refused(tmp_path: Path, override: str, words: str) -> None:
    bits = ("dataset=bits", "task=bit-memory", "model=simple-rnn", "model_params={}")
    check_names(spec_of(*bits, "input=memory", "space={name: target, realisation_length: 70}"), tmp_path)
    with pytest.raises(InvalidInput, match=words):
        check_names(spec_of(*bits, override), tmp_path)


def test_generated_sequences_are_planned_without_a_store(local_store: Store) -> None:
    spec = spec_of("dataset=bits", "task=bit-memory", "dataset_params={sequences: 200}", "model=lstm", "model_params={}")
    wanted = {"name": "bits", "version": "philox-1", "training": 180, "validation": 20, "test": 200}
    assert check_dataset(spec, local_store) == wanted


def test_a_users_module_is_found_and_not_imported(tmp_path: Path) -> None:
    (tmp_path / "nets_of_mine.py").write_text("raise RuntimeError")
    (tmp_path / "package_of_mine").mkdir()
    (tmp_path / "package_of_mine" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "package_of_mine" / "nets.py").write_text("raise RuntimeError")
    check_names(spec_of("model=nets_of_mine:build"), tmp_path)
    check_names(spec_of("model=package_of_mine.nets:build"), tmp_path)
    check_names(spec_of("model=json.decoder:JSONDecoder"), tmp_path)
    for absent in ("absent:build", "nets_of_mine.inner:build", "package_of_mine.absent:build"):
        with pytest.raises(InvalidInput, match="is not found from"):
            check_names(spec_of(f"model={absent}"), tmp_path)
    with pytest.raises(InvalidInput, match="is not found from"):
        check_names(spec_of("callbacks=['absent.calls:make']"), tmp_path)


def test_an_unknown_dataset_is_refused(local_store: Store) -> None:
    with pytest.raises(UnknownName):
        check_dataset(spec_of("dataset=absent"), local_store)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["batch=1700"], "use -s batch="),
        (["batch=1400"], "held out"),
        (["evaluate.validation=0.0001"], "is none"),
        (["training_examples=1294"], "more than the 1293 training examples of digits .of 1437, 144 are held out"),
        (["training_examples=50"], "A batch of 64 is larger than the 50 training examples"),
    ],
)
def test_a_batch_and_a_validation_share_must_be_filled(local_store: Store, overrides: list[str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_dataset(spec_of(*overrides), local_store)


def test_the_number_of_training_examples_is_planned(local_store: Store) -> None:
    counts = check_dataset(spec_of("training_examples=64"), local_store)
    assert (counts["training"], counts["validation"], counts["test"]) == (64, 144, 360)


def test_a_datasets_own_validation_split_is_planned_and_nothing_is_held_out(local_store: Store) -> None:
    make_dataset(local_store, "d", [40], validation=[3])
    for share, validation in (("0.1", 3), ("0.001", 3), ("0", 0)):
        counts = check_dataset(spec_of("dataset=d", "batch=40", f"evaluate.validation={share}"), local_store)
        assert (counts["training"], counts["validation"], counts["test"]) == (40, validation, 5)
