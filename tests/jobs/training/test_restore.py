"""Where an attempt begins and where a run ends: checkpoints in a real store, a real replica, workers that agree or do not."""

from types import SimpleNamespace
from typing import Any

import pytest
from support.saved_checkpoints import KEEP_ALL, flip
from support.training_loops import KeepingRecorder, MakeReplica, MakeSpec, busy, run

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.training.replica import Replica
from jobs.training.restore import end_with_best, start_or_resume
from service.errors import InfrastructureFailure
from service.records.run_record import RunRecord
from service.specs.train import TrainSpec
from service.storage.base import Store

LENGTH = {"epochs": 4, "log_every": 4, "checkpoint": {"every_epochs": 1}}


class Recorder(KeepingRecorder):
    """Notes from where it is told to resume."""

    resumed: tuple[int, int] | None = None

    def resume(self, step: int, history: list[Any], sealed: Any) -> None:
        self.resumed = (step, len(history))


class Share:
    """What the workers of a node share; notes whether it was released."""

    released = False

    def release(self) -> None:
        self.released = True


@pytest.fixture
def spec(make_spec: MakeSpec) -> TrainSpec:
    return make_spec(**LENGTH, early_stopping={"metric": "val_loss", "restore_best": True, "patience": 99})


@pytest.fixture
def trained(spec: TrainSpec, make_replica: MakeReplica, local_store: Store) -> list[Snapshot]:
    """The checkpoints of a run `a-run`, all in the store."""
    RunRecord(local_store, "a-run").claim(spec)
    kept = KeepingRecorder()
    run(spec, make_replica(spec, busy), kept)
    checkpoints = CheckpointStore(RunRecord(local_store, "a-run"), KEEP_ALL, RunRecord(local_store, "a-run").label(1))
    for snapshot in kept.snapshots:
        checkpoints.save(snapshot)
    return kept.snapshots


def make_context(spec: TrainSpec, replica: Replica, store: Store, **changed: Any) -> Any:
    """What one worker holds, as far as this needs it."""
    record = RunRecord(store, "a-run")
    checkpoints = CheckpointStore(record, KEEP_ALL, record.label(2))
    parts = {"replica": replica, "space": replica.space, "checkpoints": checkpoints, "place": SimpleNamespace(rank=0)}
    return SimpleNamespace(spec=spec, record=record, **{**parts, **changed})


def variables(replica: Replica) -> list[bytes]:
    return [array.tobytes() for tensors in replica.copies() for array in tensors.values()]


def of(snapshot: Snapshot) -> list[bytes]:
    return [array.tobytes() for tensors in (snapshot.model, snapshot.optimizer, snapshot.space) for array in tensors.values()]


def test_it_resumes_from_the_newest_checkpoint_bit_for_bit_and_keeps_no_arrays(
    spec: TrainSpec, make_replica: MakeReplica, local_store: Store, trained: list[Snapshot]
) -> None:
    replica, recorder = make_replica(spec, busy), Recorder()
    found = start_or_resume(make_context(spec, replica, local_store), recorder)
    assert variables(replica) == of(trained[-1])
    assert recorder.resumed == (trained[-1].step, len(trained[-1].history))
    assert recorder.events == ["resumed"]
    assert found is not None and found.step == trained[-1].step
    assert not (found.model or found.optimizer or found.space or found.averaged)


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_ones_are_said_and_the_one_before_is_taken(
    spec: TrainSpec, make_replica: MakeReplica, local_store: Store, trained: list[Snapshot], damaged: int
) -> None:
    for snapshot in trained[-damaged:]:
        flip(local_store, snapshot.step, "model.safetensors")
    replica, recorder = make_replica(spec, busy), Recorder()
    start_or_resume(make_context(spec, replica, local_store), recorder)
    assert variables(replica) == of(trained[-damaged - 1])
    assert recorder.events == ["checkpoint damaged"] * damaged + ["resumed"]


def test_without_any_it_begins_at_step_0_with_the_weights_that_it_has(
    spec: TrainSpec, make_replica: MakeReplica, local_store: Store
) -> None:
    RunRecord(local_store, "a-run").claim(spec)
    replica, recorder = make_replica(spec, busy), Recorder()
    before = variables(make_replica(spec, busy))
    assert start_or_resume(make_context(spec, replica, local_store), recorder) is None
    assert (recorder.resumed, recorder.events) == ((0, 0), [])
    assert variables(replica) == before


def test_workers_that_found_different_ones_start_again_and_hold_nothing(
    spec: TrainSpec, make_replica: MakeReplica, local_store: Store, trained: list[Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, share = make_replica(spec, busy), Share()
    context = make_context(spec, replica, local_store)
    monkeypatch.setattr(context.checkpoints, "share", share)
    monkeypatch.setattr(context.checkpoints, "load_newest", lambda damaged: trained[-1])
    monkeypatch.setattr(replica, "alike", lambda numbers: [False])
    before = variables(replica)
    with pytest.raises(InfrastructureFailure, match=f"checkpoint of step {trained[-1].step}, others found another one"):
        start_or_resume(context, Recorder())
    assert share.released
    assert variables(replica) == before


def test_a_run_ends_with_the_weights_of_its_best_evaluation(
    spec: TrainSpec, make_replica: MakeReplica, local_store: Store, trained: list[Snapshot]
) -> None:
    scored = [snapshot for snapshot in trained if snapshot.score is not None]
    best = min(scored, key=lambda snapshot: (snapshot.score, snapshot.step))
    replica, recorder = make_replica(spec, busy), Recorder()
    found = end_with_best(make_context(spec, replica, local_store), recorder)
    assert recorder.events == ["restored best"]
    assert found["val_loss"] == pytest.approx(best.score)
    # The optimizer keeps what it has: nothing is trained after this.
    model, _, _ = replica.copies()
    assert [array.tobytes() for array in model.values()] == [array.tobytes() for array in best.model.values()]


def test_a_damaged_best_is_said_and_the_run_keeps_its_last_weights(
    spec: TrainSpec, make_replica: MakeReplica, local_store: Store, trained: list[Snapshot]
) -> None:
    for snapshot in trained:
        flip(local_store, snapshot.step, "model.safetensors")
    replica, recorder = make_replica(spec, busy), Recorder()
    before = variables(replica)
    assert end_with_best(make_context(spec, replica, local_store), recorder) == {}
    assert recorder.events == ["checkpoint damaged"]
    assert variables(replica) == before


def test_a_run_that_does_not_ask_for_its_best_weights_keeps_its_last(
    make_spec: MakeSpec, make_replica: MakeReplica, local_store: Store, trained: list[Snapshot]
) -> None:
    spec = make_spec(**LENGTH)
    replica, recorder = make_replica(spec, busy), Recorder()
    before = variables(replica)
    assert end_with_best(make_context(spec, replica, local_store), recorder) == {}
    assert (recorder.events, variables(replica)) == ([], before)
