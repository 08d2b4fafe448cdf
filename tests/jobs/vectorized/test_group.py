"""Runs that train together in this process, against the same runs apart: what the store holds of them at the end."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.artifacts.checkpoints import CheckpointStore
from jobs.sweeps.group_trial import GroupTrial
from jobs.sweeps.trial_run import TrialRun
from jobs.training import ring
from jobs.worker import process as worker
from jobs.worker_groups.in_process import InProcess
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.parts import CheckpointPolicy
from service.specs.train import TrainSpec
from service.storage.base import Store

RUN: dict[str, Any] = {
    "model": "lstm",
    "model_params": {"units": 4},
    "dataset": "bits",
    "dataset_params": {"delay": 2, "length": 6, "sequences": 40},
    "task": "bit-memory",
    "optimizer": {"name": "adam", "learning_rate": 0.01, "global_clipnorm": 1.0},
    "steps": 20,
    "batch": 8,
    "log_every": 3,
    "evaluate": {"validation": 0.2},
    "checkpoint": {"every_steps": 5},
}
Make = Callable[..., TrialRun]


@pytest.fixture
def make_run(local_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Claims a run with the keys of a spec; this process keeps its own output, and its threads, which other tests have used."""
    # A log that stays empty is not copied to the store.
    monkeypatch.setattr(
        worker, "capture_output", lambda file: (file.parent.mkdir(parents=True, exist_ok=True), file.write_text("-"))
    )
    monkeypatch.setattr(ring, "limit_threads", lambda cpus: None)
    settings = Settings.load(store=local_store.url)

    def make(run_id: str, **keys: Any) -> TrialRun:
        record = RunRecord(local_store, run_id)
        record.claim(TrainSpec.model_validate({**RUN, **keys}))
        return TrialRun(record, "a-sweep", settings, str(tmp_path))

    return make


def train_group(*runs: TrialRun) -> None:
    assert list(GroupTrial(runs).reports()) == [{"evaluation": 1, "over": True, "done": True}]


def events(run: TrialRun) -> list[str]:
    return [row.event for row in run.record.events()]


def rows(run: TrialRun) -> list[dict[str, Any]]:
    """The history, without what the clock says."""
    return [{k: v for k, v in row.items() if k not in ("time", "examples_per_second")} for row in run.record.metric_rows()]


def weights(run: TrialRun) -> dict[str, Any]:
    snapshot = CheckpointStore(run.record, CheckpointPolicy()).load_newest(lambda step, why: None)
    assert snapshot is not None
    return {**snapshot.model, **snapshot.optimizer, **{f"space {key}": array for key, array in snapshot.space.items()}}


def assert_alike(ours: TrialRun, theirs: TrialRun) -> None:
    """States, rows, metrics, checkpoints and their tensors, to 1e-5."""
    mine, other = ours.record.state(), theirs.record.state()
    assert (mine.state, other.state) == ("succeeded", "succeeded"), mine.error
    assert mine.metrics == pytest.approx(other.metrics, rel=1e-5, abs=1e-5)
    assert [row["step"] for row in rows(ours)] == [row["step"] for row in rows(theirs)]
    for row, row_apart in zip(rows(ours), rows(theirs), strict=True):
        assert row == pytest.approx(row_apart, rel=1e-5, abs=1e-5)
    assert [each.step for each in ours.record.checkpoints()] == [each.step for each in theirs.record.checkpoints()]
    tensors, tensors_apart = weights(ours), weights(theirs)
    assert sorted(tensors) == sorted(tensors_apart)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(tensor, tensors_apart[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_member_is_the_run_that_its_spec_makes_apart(make_run: Make, local_store: Store) -> None:
    keys = [{"seed": 3}, {"seed": 4, "optimizer": {**RUN["optimizer"], "learning_rate": 0.03}}, {"seed": 5}]
    members = [make_run(f"member-{number}", **each) for number, each in enumerate(keys)]
    train_group(*members)
    for member, each in zip(members, keys, strict=True):
        apart = make_run(member.record.run_id.replace("member", "apart"), **each)
        assert apart.drive(lambda *_: InProcess()) is None
        assert_alike(member, apart)
        ours, theirs = (
            {key.split("/", 2)[2].replace(run.record.nonce, "") for key in keys_of(local_store, run)} for run in (member, apart)
        )
        assert {key for key in ours if "tfevents" not in key} == {key for key in theirs if "tfevents" not in key}
    assert [event for event in events(members[0]) if event != "checkpoint"] == ["attempt", "together", "training", "ended"]
    (told,) = [row for row in members[1].record.events() if row.event == "together"]
    assert told.trials == ["member-0", "member-2"]


def keys_of(store: Store, run: TrialRun) -> set[str]:
    return {info.key for info in store.objects(run.record.paths.root)}


@pytest.mark.slow
def test_members_in_target_space_have_each_their_own_ridge_and_targets(make_run: Make) -> None:
    run = {
        "model": "simple-rnn",
        "optimizer": {"name": "sgd", "learning_rate": 0.3},
        "model_params": {"units": 4, "input_scale": 0.5},
    }
    ridges = [(1, 0.1), (2, 0.1), (2, 1.0)]
    for initial in ("random", "weights"):
        spaces = [{"name": "target", "ridge": ridge, "realisation": 6, "initial": initial} for _, ridge in ridges]
        keys = [{**run, "seed": seed, "space": space} for (seed, _), space in zip(ridges, spaces, strict=True)]
        members = [make_run(f"{initial}-{number}", **each) for number, each in enumerate(keys)]
        group = GroupTrial(members)
        assert list(group.reports())
        for member, each in zip(members, keys, strict=True):
            assert "together" in events(member)
            apart = make_run(f"{member.record.run_id}-apart", **each)
            assert apart.drive(lambda *_: InProcess()) is None
            assert_alike(member, apart)


def test_a_member_that_fails_or_ends_early_stops_and_the_others_continue(make_run: Make) -> None:
    quick = {
        "model": "simple-rnn",
        "model_params": {"units": 4, "activation": "relu"},
        "early_stopping": {"metric": "val_accuracy", "goal": 0.5},
        "steps": 32,
    }
    rates = {"fine": 0.01, "calm": 1e-6, "wild": 1e38, "bold": 0.02}
    sgd = {name: {"name": "sgd", "learning_rate": rate} for name, rate in rates.items()}
    members = {name: make_run(name, seed=number, optimizer=sgd[name], **quick) for number, name in enumerate(rates)}
    train_group(*members.values())
    states = {name: run.record.state() for name, run in members.items()}
    assert {name: state.state for name, state in states.items()} == {
        "fine": "succeeded", "calm": "succeeded", "wild": "failed", "bold": "succeeded"
    }  # fmt: skip
    assert "The loss became" in states["wild"].error.message
    assert (states["wild"].exit_code, len(states["wild"].attempts)) == (3, 1)
    # One before and one behind the member that failed, which end at different steps.
    ends = {name: members[name].record.metric_rows()[-1]["step"] for name in ("calm", "bold")}
    assert ends["calm"] < ends["bold"]
    for name, end in ends.items():
        apart = make_run(f"{name}-apart", seed=list(rates).index(name), optimizer=sgd[name], **quick)
        assert apart.drive(lambda *_: InProcess()) is None
        assert apart.record.metric_rows()[-1]["step"] == end
        assert_alike(members[name], apart)


@pytest.mark.parametrize(("validation", "metric"), [(0.2, "val_loss"), (0.0, "test_loss")])
def test_an_evaluation_that_is_no_number_is_the_failure_of_its_run_alone(make_run: Make, validation: float, metric: str) -> None:
    # The first step's loss is that of the first weights; what it makes of them is seen by the evaluation alone.
    keys = {"model": "simple-rnn", "model_params": {"units": 4, "activation": "relu"}, "evaluate": {"validation": validation}}
    sgd = {"fine": 0.01, "wild": 1e38, "bold": 0.02, "wild-apart": 1e38}
    runs = {
        name: make_run(name, steps=1, seed=2, optimizer={"name": "sgd", "learning_rate": rate}, **keys)
        for name, rate in sgd.items()
    }
    apart = runs.pop("wild-apart")
    train_group(*runs.values())
    assert apart.drive(lambda *_: InProcess()) is None
    states = {name: run.record.state() for name, run in {**runs, "apart": apart}.items()}
    assert [states[name].state for name in ("fine", "bold")] == ["succeeded"] * 2
    for name in ("wild", "apart"):
        error = states[name].error
        assert (states[name].state, error.kind, error.exit_code) == ("failed", "user", 3)
        assert f"The evaluation at step 1 (epoch 1) found {metric} " in error.message
        assert len(states[name].attempts) == 1


@pytest.mark.slow
def test_a_run_that_was_stopped_resumes_together_or_apart(make_run: Make) -> None:
    keys = [{"seed": seed, "steps": 400, "checkpoint": {"every_steps": 10}} for seed in (1, 2, 3)]
    members = [make_run(f"member-{number}", **each) for number, each in enumerate(keys)]
    group = GroupTrial(members)
    while not all(member.record.checkpoints() for member in members):
        time.sleep(0.05)
    group.stop()
    states = [member.record.state() for member in members]
    assert [state.state for state in states] == ["cancelled"] * 3
    assert len({state.position.step for state in states}) == 1
    assert states[0].position.step < 400
    train_group(*members[:2])
    assert members[2].drive(lambda *_: InProcess()) is None
    for member, each in zip(members, keys, strict=True):
        assert "resumed" in events(member)
        apart = make_run(f"{member.record.run_id}-apart", **each)
        assert apart.drive(lambda *_: InProcess()) is None
        steps = [row["step"] for row in rows(member)]
        assert steps == [row["step"] for row in rows(apart)]
        assert rows(member)[0] == pytest.approx(rows(apart)[0], rel=1e-5, abs=1e-5)
        assert member.record.state().state == "succeeded"


def test_runs_at_different_steps_train_in_groups_of_equal_step(make_run: Make) -> None:
    members = [make_run(f"member-{number}", seed=number) for number in range(3)]
    assert members[0].drive(lambda *_: InProcess()) is None
    train_group(*members)
    assert [member.record.state().state for member in members] == ["succeeded"] * 3
    assert "together" not in events(members[0])
    (told,) = [row for row in members[1].record.events() if row.event == "together"]
    assert told.trials == ["member-2"]
