"""Where a run's first weights come from, resolved before anything starts."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.artifacts.tensors import tensors_to_bytes
from service import recipes
from service.cluster.local_ray import LocalRay
from service.errors import InvalidInput, UnknownName
from service.records.first_weights import find_weights, origin_of_weights, weights_of
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.records.submission_schemas import FirstWeights, Origin
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.submission.plan import Request, plan
from service.submission.submit import submit


def spec_of(*overrides: str) -> TrainSpec:
    return recipes.resolve("cnn-digits", ["worker.cpus=0.01", *overrides], None, Path())[0]


def finished(store: Store, run_id: str = "base", *overrides: str, state: str = "succeeded", **origin: Any) -> RunRecord:
    record = RunRecord(store, run_id)
    assert record.claim(spec_of(*overrides), Origin.model_validate({"dataset_version": "uci-1998", **origin}))
    record.write_state(StateDocument(state=state, attempts=[], error=None))
    return record


def keep(record: RunRecord, scores: dict[int, float | None]) -> None:
    checkpoints = CheckpointStore(record, record.spec().checkpoint.model_copy(update={"keep_last": 9}), record.label(1))
    for step, score in scores.items():
        checkpoints.save(Snapshot(step, 1, {"00000 a/b": np.full(1, step)}, {"00000 c": np.zeros(1)}, [], {}, score=score))


def sha256_of(store: Store, key: str, folder: Path) -> str:
    return store.download(key, folder / "fetched")


@pytest.mark.parametrize(("restore_best", "step"), [(True, 20), (False, 30)])
def test_of_a_run_it_is_what_the_run_ended_with(local_store: Store, tmp_path: Path, restore_best: bool, step: int) -> None:
    record = finished(local_store, "base", f"early_stopping={{restore_best: {restore_best}}}")
    keep(record, {10: 0.5, 20: 0.25, 30: 0.25})
    local_store.write(record.paths.model, b"PK")
    found = find_weights(local_store, "base")
    assert (found.run, found.step, found.key) == (
        "base",
        step,
        f"runs/base/checkpoints/{step:010d}-{record.label(1)}/model.safetensors",
    )
    assert found.sha256 == sha256_of(local_store, found.key, tmp_path)
    assert found.classes == tuple("0123456789")
    assert FirstWeights.model_validate(found.document()) == found
    assert str(found) == f"the run base at step {step}"


def test_without_checkpoints_it_is_the_model(local_store: Store) -> None:
    record = finished(local_store)
    with pytest.raises(InvalidInput, match="neither a checkpoint nor a model"):
        find_weights(local_store, "base")
    local_store.write(record.paths.model, b"PK")
    assert find_weights(local_store, "base").document() == {
        "key": "runs/base/model.keras",
        "run": "base",
        "classes": list("0123456789"),
    }


@pytest.mark.parametrize("state", ["running", "failed", "cancelled", "queued"])
def test_only_a_run_that_succeeded_is_a_source(local_store: Store, state: str) -> None:
    record = finished(local_store, state=state)
    keep(record, {10: None})
    with pytest.raises(InvalidInput, match=f"'base', which is {state}: only a run that succeeded"):
        find_weights(local_store, "base")
    key = record.checkpoints()[0].path + "model.safetensors"
    assert find_weights(local_store, key) == FirstWeights(key=key)


def test_a_run_whose_dataset_is_gone_says_no_classes(local_store: Store) -> None:
    keep(finished(local_store, "base", "dataset=gone", dataset_version="v1"), {10: None})
    assert find_weights(local_store, "base").classes is None


def test_a_missing_run_that_a_recipe_makes_names_the_command(local_store: Store) -> None:
    with pytest.raises(UnknownName, match="make it with `delayline train lenet5-mnist --name lenet5-mnist`"):
        find_weights(local_store, "lenet5-mnist")
    with pytest.raises(UnknownName, match="`delayline runs list` shows them"):
        find_weights(local_store, "mine")


@pytest.mark.parametrize(
    ("key", "data", "words"),
    [
        ("a/b.keras", None, "no file 'a/b.keras'"),
        ("a/b.safetensors", None, "no file 'a/b.safetensors'"),
        ("a.keras", b"HDF5", "is no keras file"),
        ("a.keras", b"", "is no keras file"),
        ("a.safetensors", b"", "is no safetensors file"),
        ("a.safetensors", struct.pack("<Q", 2), "is no safetensors file"),
        ("a.safetensors", b"\x80\x04\x95\x00\x00\x00\x00\x00\x00", "is no safetensors file"),
        ("../a.keras", None, "is not valid"),
        ("a//b.safetensors", None, "is not valid"),
    ],
)
def test_refuses_a_file(local_store: Store, key: str, data: bytes | None, words: str) -> None:
    if data is not None:
        local_store.write(key, data)
    with pytest.raises(InvalidInput, match=words):
        find_weights(local_store, key)


def test_takes_a_file_by_its_key(local_store: Store) -> None:
    local_store.write("nets/a.safetensors", tensors_to_bytes({"a/b": np.zeros(3)}))
    local_store.write("nets/b.keras", b"PK\x03\x04")
    assert find_weights(local_store, "nets/a.safetensors").document() == {"key": "nets/a.safetensors"}
    assert str(find_weights(local_store, "nets/b.keras")) == "the file nets/b.keras"


@pytest.mark.parametrize("source", ["mine", "runs/mine/model.keras", "runs/mine/checkpoints/0000000001/model.safetensors"])
def test_a_run_is_no_source_of_itself(local_store: Store, source: str) -> None:
    with pytest.raises(InvalidInput, match="cannot start from itself"):
        origin_of_weights(local_store, spec_of(f"init_from={source}"), "mine")


def test_the_plan_finds_the_source_and_the_submission_notes_it(local_store: Store, tmp_path: Path) -> None:
    def planned(run_id: str, source: str) -> Any:
        place = LocalRay(tmp_path)
        settings = Settings.load(store=local_store.url)
        return plan(Request(spec_of(f"init_from={source}"), "x", tmp_path, run_id), settings, local_store, place)

    with pytest.raises(UnknownName, match="no run 'base'"):
        planned("mine", "base")
    assert not list(local_store.objects(""))
    record = finished(local_store)
    keep(record, {10: None})
    made = planned("mine", "base")
    assert made.document()["init_from"] == find_weights(local_store, "base").document()
    submit(made, local_store)
    mine = RunRecord(local_store, "mine")
    noted = weights_of(mine, mine.spec())
    assert noted == find_weights(local_store, "base")
    # Once the run has begun its source may go: to submit it again does no harm.
    local_store.delete_prefix(record.paths.root)
    assert submit(planned("mine", "base"), local_store).action == "attach"
    assert weights_of(mine, mine.spec()) == noted


def test_a_run_that_starts_from_nothing_notes_nothing(local_store: Store) -> None:
    assert origin_of_weights(local_store, spec_of(), "mine") is None
