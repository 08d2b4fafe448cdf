"""Whole sweeps on a real Ray: killed, cancelled and resumed they end like the sweep `calm`, which nobody disturbed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support.workspace import COMMAND_SECONDS, Workspace, command_of, family, figures, kill, kill_when, tensors

from service.records.run_record import RunRecord

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SWEEP = """
base: run.yaml
space:
  optimizer.learning_rate.initial: {grid: [0.001, 0.002, 0.003, 0.01]}
seeds: 2
"""
CHANGES = ("-s", "base.worker.cpus=1", "-s", "base.steps=40", "-s", "base.checkpoint.every_steps=10")


def write(workspace: Workspace, text: str) -> Workspace:
    (workspace.folder / "sweep.yaml").write_text(text)
    return workspace


@pytest.fixture(scope="module")
def calm_sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with the sweep `calm`, which nobody disturbed."""
    folder = tmp_path_factory.mktemp("calm-sweep")
    made = write(Workspace(folder / "workspace", str(folder / "store")), SWEEP)
    done = made.delayline("sweep", "sweep.yaml", *CHANGES, "--name", "calm", "--json")
    assert done.code == 0, done.err
    assert [trial["state"] for trial in done.document["trials"]] == ["succeeded"] * 8
    yield made
    made.clean_up()


def result(document: Any) -> dict[str, Any]:
    """What a sweep found, by the number of the trial, without times."""
    return {trial["id"].rpartition("-")[2]: (trial["params"], trial["state"], trial["metrics"]) for trial in document["trials"]}


def test_a_trial_is_the_run_that_its_spec_makes_apart(calm_sweep: Workspace) -> None:
    trial = calm_sweep.show("calm-0003")
    assert trial["sweep"] == "calm"
    (calm_sweep.folder / "apart.yaml").write_text(yaml.safe_dump(trial["spec"]))
    done = calm_sweep.delayline("train", "apart.yaml", "--name", "apart", "--json")
    assert done.code == 0, done.err
    ours, theirs = tensors(calm_sweep, "calm-0003"), tensors(calm_sweep, "apart")
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()] == []
    assert done.document["metrics"] == trial["metrics"]


def test_trials_share_warm_processes(calm_sweep: Workspace) -> None:
    document = calm_sweep.show("calm")
    workers = {trial["attempts"][-1]["workers"][0]["pid"] for trial in document["trials"]}
    assert len(workers) <= 2
    assert document["best"]["trials"] == [f"calm-{2 * document['best']['point'] + seed:04d}" for seed in (0, 1)]
    rows = calm_sweep.delayline("runs", "list", "--json").document
    assert [row["kind"] for row in rows if row["id"] == "calm"] == ["sweep"]


def test_kills_change_nothing(workspace: Workspace, calm_sweep: Workspace) -> None:
    """Of the driver, of the trials' processes, and of everything, one after another: what succeeded before is left as it is."""
    write(workspace, SWEEP)
    command = ("sweep", "sweep.yaml", *CHANGES, "--name", "killed", "--json")
    process = workspace.start(*command)
    before = []
    for count, victim in ((1, "jobs.sweep"), (3, "ray::"), (5, "")):
        before.append(workspace.wait_for_trials("killed", count))
        kill([one for one in family(process.pid) if victim in command_of(one)])
    process.wait()
    other = workspace.delayline(*command, "-s", "space.batch={grid: [24]}", "--resume")
    assert other.code == 2
    assert "space.batch" in other.err
    done = workspace.delayline(*command, "--resume")
    assert done.code == 0, done.err
    assert result(done.document) == result(calm_sweep.show("calm"))
    after = {trial["id"]: trial for trial in done.document["trials"]}
    for trial in (trial for document in before for trial in document["trials"] if trial["state"] == "succeeded"):
        assert after[trial["id"]]["attempts"] == trial["attempts"]
    for trial in after:
        steps = [row["step"] for row in workspace.show(trial)["history"]]
        assert steps == sorted(set(steps))


def test_ctrl_c_saves_the_trials_and_they_resume_with_and_without_the_command(
    workspace: Workspace, calm_sweep: Workspace
) -> None:
    write(workspace, SWEEP)
    bare = [sys.executable, "-m", "jobs.sweep", "sweep.yaml", *CHANGES, "--name", "stopped", "--store", workspace.store_url]
    process = subprocess.Popen(bare, cwd=workspace.folder, env=dict(os.environ), stderr=subprocess.PIPE, text=True)
    try:
        workspace.wait_for_trials("stopped", 1)
        # Tune has a handler of its own.
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=COMMAND_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert workspace.show("stopped")["state"] == "cancelled"
    process = workspace.start("sweep", "--resume", "--name", "stopped", "--json")
    workspace.wait_for_trials("stopped", 3)
    process.send_signal(signal.SIGINT)
    stopped = workspace.end_of(process)
    assert stopped.code == 130, stopped.err
    assert stopped.document["state"] == "cancelled"
    assert "running" not in {trial["state"] for trial in stopped.document["trials"]}
    assert "delayline sweep --resume --name stopped" in stopped.err
    done = subprocess.run(
        [*bare, "--resume"], cwd=workspace.folder, env=dict(os.environ), capture_output=True, text=True, timeout=COMMAND_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert result(workspace.show("stopped")) == result(calm_sweep.show("calm"))
    assert not [process for process in psutil.process_iter() if "--name stopped" in command_of(process)]
    assert Path(workspace.store_url, "runs", "stopped", "report.html").exists()


def test_a_sweep_that_the_system_stops_saves_and_is_resumed(workspace: Workspace, calm_sweep: Workspace) -> None:
    """By itself where its driver alone is stopped, and by the same command where all is."""
    write(workspace, SWEEP)
    command = ("sweep", "sweep.yaml", *CHANGES, "--name", "drained", "--json")
    process = workspace.start(*command)
    workspace.wait_for_trials("drained", 1)
    (driver,) = [one for one in family(process.pid) if "jobs.sweep" in command_of(one)]
    driver.terminate()
    workspace.wait_for("drained", lambda sweep: len(sweep["attempts"]) == 2)
    workspace.wait_for_trials("drained", 3)
    process.send_signal(signal.SIGTERM)
    stopped = workspace.end_of(process)
    assert stopped.code == 4, stopped.err
    state = RunRecord(workspace.store, "drained").state()
    assert (state.state, state.reason, state.attempts[-1].reason) == ("retrying", "signal", "signal")
    assert not [one for one in psutil.process_iter() if "--run drained" in command_of(one)]
    done = workspace.delayline(*command)
    assert done.code == 0, done.err
    assert result(done.document) == result(calm_sweep.show("calm"))
    assert [row["event"] for row in done.document["events"]].count("interrupted") == 2
    assert "running" not in {attempt["reason"] for attempt in done.document["attempts"]}
    assert len(done.document["attempts"]) == 3


MEMORISERS = """
base:
  recipe: bit-memory-rnn
  epochs: 40
  checkpoint: {every_epochs: 2}
  dataset_params: {delay: 5}
  optimizer: {name: adam, learning_rate: 0.003, global_clipnorm: 1.0}
  evaluate: {every_epochs: 1, validation: 0.1}
space:
  optimizer.learning_rate: {grid: [0.003, 0.01]}
seeds: 2
parallel: 1
"""


def test_small_trials_train_together_and_a_kill_changes_nothing(workspace: Workspace) -> None:
    write(workspace, MEMORISERS)
    apart = workspace.delayline("sweep", "sweep.yaml", "-s", "together=never", "-s", "base.epochs=1", "--name", "apart", "--json")
    assert apart.code == 0, apart.err
    process = workspace.start("sweep", "sweep.yaml", "--name", "killed", "--json")
    trials = [trial["id"].replace("apart", "killed") for trial in apart.document["trials"]]

    def all_saved_the_same_step_and_said_how_they_train() -> bool:
        steps = {newest_step(workspace, trial) for trial in trials}
        return len(steps) == 1 and steps != {0} and all("together" in names(workspace.show(trial)) for trial in trials)

    # Runs whose newest checkpoints stand at different steps would rightly train apart; events are written every few seconds.
    kill_when(
        all_saved_the_same_step_and_said_how_they_train,
        lambda: [one for one in family(process.pid) if "ray::" in command_of(one)],
    )
    done = workspace.end_of(process)
    assert done.code == 0, done.err
    assert [trial["id"] for trial in done.document["trials"]] == trials
    assert len({trial["attempts"][-1]["workers"][0]["pid"] for trial in done.document["trials"]}) == 1
    for trial, other in zip(trials, apart.document["trials"], strict=True):
        document, alone = workspace.show(trial), workspace.show(other["id"])
        assert (names(document).count("together"), names(alone).count("together")) == (2, 0)
        assert "resumed" in names(document)
        steps = [row["step"] for row in document["history"]]
        assert steps == sorted({*range(18, 721, 18), *range(50, 721, 50)})
        # The rate is constant: one epoch is the beginning of forty. tests/jobs/vectorized compares weights.
        ours, theirs = figures(document["history"][0]), figures(alone["history"][0])
        shared = ("step", "epoch", "loss", "accuracy", "val_loss", "val_accuracy")
        assert {name: ours[name] for name in shared} == pytest.approx({name: theirs[name] for name in shared}, rel=1e-5, abs=1e-5)
    assert [trial["state"] for trial in done.document["trials"]] == ["succeeded"] * 4


def newest_step(workspace: Workspace, run_id: str) -> int:
    """Of the newest checkpoint that a successor finds; 0 if there is none."""
    return RunRecord(workspace.store, run_id).step_to_resume_from()


def names(document: Any) -> list[str]:
    return [row["event"] for row in document["events"]]
