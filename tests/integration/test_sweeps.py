"""Whole sweeps on a real Ray: killed, cancelled and gone on with they end like the sweep `calm`, which was left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from desk import Desk, command_of, family, kill, kill_when, tensors

from service.storage.records import RunRecord

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SWEEP = """
base: run.yaml
space:
  optimizer.learning_rate.initial: {grid: [0.001, 0.003, 0.01]}
seeds: 2
"""
CHANGES = ("-s", "base.worker.cpus=1", "-s", "base.steps=40", "-s", "base.checkpoint.every_steps=10")


def write(desk: Desk, text: str) -> Desk:
    (desk.folder / "sweep.yaml").write_text(text)
    return desk


@pytest.fixture(scope="module")
def calm_sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk with the sweep `calm`, which nobody disturbed."""
    folder = tmp_path_factory.mktemp("calm-sweep")
    made = write(Desk(folder / "desk", str(folder / "store")), SWEEP)
    done = made.delayline("sweep", "sweep.yaml", *CHANGES, "--name", "calm", "--json")
    assert done.code == 0, done.err
    assert [trial["state"] for trial in done.document["trials"]] == ["succeeded"] * 6
    yield made
    made.clean_up()


def result(document: Any) -> dict[str, Any]:
    """What a sweep found, by the number of the trial, without times."""
    return {trial["id"].rpartition("-")[2]: (trial["params"], trial["state"], trial["metrics"]) for trial in document["trials"]}


def test_a_trial_is_the_run_that_its_spec_makes_apart(calm_sweep: Desk) -> None:
    trial = calm_sweep.show("calm-0003")
    assert trial["sweep"] == "calm"
    (calm_sweep.folder / "apart.yaml").write_text(yaml.safe_dump(trial["spec"]))
    done = calm_sweep.delayline("train", "apart.yaml", "--name", "apart", "--json")
    assert done.code == 0, done.err
    ours, theirs = tensors(calm_sweep, "calm-0003"), tensors(calm_sweep, "apart")
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()] == []
    assert done.document["metrics"] == trial["metrics"]


def test_trials_share_warm_processes(calm_sweep: Desk) -> None:
    document = calm_sweep.show("calm")
    workers = {trial["attempts"][-1]["workers"][0]["pid"] for trial in document["trials"]}
    assert len(workers) <= 2
    assert document["best"]["trials"] == [f"calm-{2 * document['best']['point'] + seed:04d}" for seed in (0, 1)]
    rows = calm_sweep.delayline("runs", "list", "--json").document
    assert [row["kind"] for row in rows if row["id"] == "calm"] == ["sweep"]


@pytest.mark.parametrize("victim", ["jobs.sweep", "ray::"], ids=["driver", "processes"])
def test_a_kill_changes_nothing(desk: Desk, calm_sweep: Desk, victim: str) -> None:
    write(desk, SWEEP)
    process = desk.start("sweep", "sweep.yaml", *CHANGES, "--name", "killed", "--json")
    desk.wait_for_trials("killed", 2)
    kill([one for one in family(process.pid) if victim in command_of(one)])
    done = desk.end_of(process)
    assert done.code == 0, done.err
    assert result(done.document) == result(calm_sweep.show("calm"))
    assert sum(len(trial["attempts"]) == 1 for trial in done.document["trials"]) >= 2


def test_a_sweep_that_was_killed_whole_is_gone_on_with(desk: Desk, calm_sweep: Desk) -> None:
    write(desk, SWEEP)
    command = ("sweep", "sweep.yaml", *CHANGES, "--name", "killed", "--json")
    process = desk.start(*command)
    before = desk.wait_for_trials("killed", 2)
    kill(family(process.pid))
    process.wait()
    other = desk.delayline(*command, "-s", "space.batch={grid: [24]}", "--resume")
    assert other.code == 2
    assert "space.batch" in other.err
    done = desk.delayline(*command, "--resume")
    assert done.code == 0, done.err
    assert result(done.document) == result(calm_sweep.show("calm"))
    for trial in before["trials"]:
        if trial["state"] == "succeeded":
            (after,) = [each for each in done.document["trials"] if each["id"] == trial["id"]]
            assert after["attempts"] == trial["attempts"]
    for trial in done.document["trials"]:
        steps = [row["step"] for row in desk.show(trial["id"])["history"]]
        assert steps == sorted(set(steps))


def test_ctrl_c_saves_the_trials_and_resume_goes_on(desk: Desk, calm_sweep: Desk) -> None:
    write(desk, SWEEP)
    command = ("sweep", "sweep.yaml", *CHANGES, "--name", "stopped", "--json")
    process = desk.start(*command)
    desk.wait_for_trials("stopped", 1)
    process.send_signal(signal.SIGINT)
    stopped = desk.end_of(process)
    assert stopped.code == 130, stopped.err
    assert stopped.document["state"] == "cancelled"
    assert "running" not in {trial["state"] for trial in stopped.document["trials"]}
    assert "delayline sweep --resume --name stopped" in stopped.err
    done = desk.delayline("sweep", "--resume", "--name", "stopped", "--json")
    assert done.code == 0, done.err
    assert result(done.document) == result(calm_sweep.show("calm"))


@pytest.mark.parametrize("victim", ["command", "driver"])
def test_a_sweep_that_the_system_stops_saves_and_is_gone_on_with(desk: Desk, calm_sweep: Desk, victim: str) -> None:
    """By the same command where all is stopped, and by itself where its driver alone is."""
    write(desk, SWEEP)
    command = ("sweep", "sweep.yaml", *CHANGES, "--name", "drained", "--json")
    process = desk.start(*command)
    desk.wait_for_trials("drained", 1)
    if victim == "command":
        process.send_signal(signal.SIGTERM)
        stopped = desk.end_of(process)
        assert stopped.code == 4, stopped.err
        state = RunRecord(desk.store, "drained").state()
        assert (state["state"], state["reason"], state["attempts"][-1]["reason"]) == ("retrying", "signal", "signal")
        assert not [one for one in psutil.process_iter() if "--run drained" in command_of(one)]
        process = desk.start(*command)
    else:
        (driver,) = [one for one in family(process.pid) if "jobs.sweep" in command_of(one)]
        driver.terminate()
    done = desk.end_of(process)
    assert done.code == 0, done.err
    assert result(done.document) == result(calm_sweep.show("calm"))
    assert "interrupted" in [row["event"] for row in done.document["events"]]
    assert "running" not in {attempt["reason"] for attempt in done.document["attempts"]}
    assert len(done.document["attempts"]) == 2


def test_a_trial_that_fails_is_noted_and_the_sweep_goes_on(desk: Desk) -> None:
    space = "{model_params.dropout: {grid: [0.3, 7]}, optimizer.learning_rate.initial: {grid: [0.001, 1.0e+30]}}"
    write(desk, f"base: run.yaml\nspace: {space}\n")
    done = desk.delayline("sweep", "sweep.yaml", *CHANGES, "--name", "faulty", "--json")
    assert done.code == 0, done.err
    states = {tuple(trial["params"].values()): trial["state"] for trial in done.document["trials"]}
    assert states == {(0.3, 0.001): "succeeded", (0.3, 1e30): "failed", (7, 0.001): "failed", (7, 1e30): "failed"}
    failed = [trial for trial in done.document["trials"] if trial["state"] == "failed"]
    assert all(len(trial["attempts"]) == 1 and trial["error"]["exit_code"] == 3 for trial in failed)
    assert done.document["best"]["params"]["model_params.dropout"] == 0.3


def test_trials_may_be_distributed(desk: Desk) -> None:
    write(desk, "base: run.yaml\nspace: {seed: {grid: [1, 2]}}\n")
    done = desk.delayline("sweep", "sweep.yaml", "-s", "base.steps=20", "--workers", "2", "--name", "wide", "--json")
    assert done.code == 0, done.err
    assert [len(trial["attempts"][-1]["workers"]) for trial in done.document["trials"]] == [2, 2]
    assert [trial["state"] for trial in done.document["trials"]] == ["succeeded"] * 2


def test_asha_stops_trials_which_can_be_gone_on_with_alone(desk: Desk) -> None:
    text = """
base: run.yaml
space: {optimizer.learning_rate.initial: {grid: [0.01, 0.003, 0.001, 1.0e-7, 1.0e-8, 1.0e-9]}}
scheduler: {name: asha, grace_epochs: 1, reduction: 2}
metric: val_loss
mode: min
"""
    write(desk, text)
    changes = (
        "-s",
        "base.epochs=4",
        "-s",
        "base.worker.cpus=1",
        "-s",
        "base.callbacks=[]",
        "-s",
        "base.checkpoint={every_epochs: 1}",
    )
    done = desk.delayline("sweep", "sweep.yaml", *changes, "--name", "early", "--json")
    assert done.code == 0, done.err
    stopped = [trial for trial in done.document["trials"] if trial["state"] == "stopped"]
    assert stopped
    assert done.document["best"]["params"]["optimizer.learning_rate.initial"] >= 0.001
    for trial in stopped:
        assert trial["stopped"]["by"] == "asha"
        assert trial["epoch"] < 4
    again = desk.delayline("train", "--resume", "--name", stopped[0]["id"], "--json")
    assert again.code == 0, again.err
    assert again.document["epoch"] == 4
    assert again.document["state"] == "succeeded"


def test_in_a_population_bad_trials_take_over_from_good_ones_though_all_was_killed_once(desk: Desk) -> None:
    text = """
base: run.yaml
space: {optimizer.learning_rate.initial: {grid: [0.01, 0.003, 1.0e-8, 1.0e-9]}}
scheduler: {name: pbt, grace_epochs: 1, quantile: 0.5}
"""
    write(desk, text)
    changes = ("base.epochs=8", "base.worker.cpus=1", "base.callbacks=[]", "base.checkpoint={every_epochs: 1}")
    command = ("sweep", "sweep.yaml", *(word for change in changes for word in ("-s", change)), "--name", "all", "--json")
    process = desk.start(*command)
    end = time.monotonic() + 200
    while not any(trial.get("mutations") for trial in RunRecord(desk.store, "all").trials()) and time.monotonic() < end:
        time.sleep(0.2)
    kill(family(process.pid))
    process.wait()
    noted = RunRecord(desk.store, "all").trials()
    before = {trial["id"]: [each["params"] for each in trial["mutations"]] for trial in noted if trial.get("mutations")}
    assert before
    done = desk.delayline(*command, "--resume")
    assert done.code == 0, done.err
    trials = done.document["trials"]
    assert [trial["state"] for trial in trials] == ["succeeded"] * 4
    for trial in trials:
        run = desk.show(trial["id"])
        steps = [row["step"] for row in run["history"]]
        assert steps == sorted(set(steps))
        assert run["epoch"] == 8
        assert run["spec"]["optimizer"]["learning_rate"]["initial"] == trial["params"]["optimizer.learning_rate.initial"]
        mutations = trial.get("mutations") or []
        assert [each["params"] for each in mutations][: len(before.get(trial["id"], []))] == before.get(trial["id"], [])
        told = [(event["from"], event["step"]) for event in run["events"] if event["event"] == "took over"]
        assert told == [(each["from"], each["step"]) for each in mutations]
    for bad in trials[2:]:
        assert bad["first_params"]["optimizer.learning_rate.initial"] <= 1e-8
        assert bad["metrics"]["val_accuracy"] > done.document["best"]["mean"] - 0.15


def test_a_budget_ends_a_sweep_of_which_all_that_could_end_ended(desk: Desk) -> None:
    write(
        desk, "base: run.yaml\nspace: {optimizer.learning_rate.initial: {loguniform: [0.001, 0.01]}}\nsearch: tpe\nbudget: 30s\n"
    )
    began = time.monotonic()
    done = desk.delayline("sweep", "sweep.yaml", *CHANGES, "--name", "short", "--json")
    assert done.code == 0, done.err
    assert time.monotonic() - began < 120
    states = {trial["state"] for trial in done.document["trials"]}
    assert states <= {"succeeded", "stopped"}
    assert json.dumps(done.document["best"])


MEMORISERS = """
base: {recipe: bit-memory-rnn, epochs: 40, checkpoint: {every_epochs: 2}, dataset_params: {delay: 5}}
space:
  optimizer.learning_rate.initial: {grid: [0.003, 0.01]}
seeds: 2
parallel: 1
"""


def test_small_trials_train_together_and_a_kill_changes_nothing(desk: Desk) -> None:
    write(desk, MEMORISERS)
    apart = desk.delayline("sweep", "sweep.yaml", "-s", "together=never", "-s", "base.epochs=1", "--name", "apart", "--json")
    assert apart.code == 0, apart.err
    short = desk.delayline("sweep", "sweep.yaml", "-s", "base.epochs=1", "--name", "short", "--json")
    assert short.code == 0, short.err
    assert len({trial["attempts"][-1]["workers"][0]["pid"] for trial in short.document["trials"]}) == 1
    for one, other in zip(short.document["trials"], apart.document["trials"], strict=True):
        ours, theirs = (desk.show(trial["id"]) for trial in (one, other))
        assert ("together" in names(ours), "together" in names(theirs)) == (True, False)
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-5, abs=1e-5)
        mine, others = tensors(desk, one["id"]), tensors(desk, other["id"])
        assert sorted(mine) == sorted(others)
        for name, tensor in mine.items():
            np.testing.assert_allclose(tensor, others[name], rtol=1e-4, atol=1e-5)
    process = desk.start("sweep", "sweep.yaml", "--name", "killed", "--json")

    def all_saved_the_same_step() -> bool:
        steps = {newest_step(desk, trial["id"].replace("short", "killed")) for trial in short.document["trials"]}
        return len(steps) == 1 and steps != {0}

    # Runs whose newest checkpoints stand at different steps would rightly train apart.
    kill_when(all_saved_the_same_step, lambda: [one for one in family(process.pid) if "ray::" in command_of(one)])
    done = desk.end_of(process)
    assert done.code == 0, done.err
    for trial in done.document["trials"]:
        document = desk.show(trial["id"])
        assert names(document).count("together") == 2
        assert "resumed" in names(document)
        steps = [row["step"] for row in document["history"]]
        assert steps == sorted({*range(18, 721, 18), *range(50, 721, 50)})
    assert [trial["state"] for trial in done.document["trials"]] == ["succeeded"] * 4


def newest_step(desk: Desk, run_id: str) -> int:
    """Of the run's newest checkpoint; 0 if it has none."""
    checkpoints = RunRecord(desk.store, run_id).checkpoints()
    return int(checkpoints[-1]["step"]) if checkpoints else 0


def names(document: Any) -> list[str]:
    return [row["event"] for row in document["events"]]


def test_the_entry_point_runs_a_sweep_without_the_command_and_ctrl_c_cancels_it(desk: Desk) -> None:
    write(desk, SWEEP)
    options = ("sweep.yaml", *CHANGES, "-s", "seeds=1", "--name", "bare-sweep", "--store", desk.store_url)
    command = [sys.executable, "-m", "jobs.sweep", *options]
    process = subprocess.Popen(command, cwd=desk.folder, env=dict(os.environ), stderr=subprocess.PIPE, text=True)
    try:
        desk.wait_for_trials("bare-sweep", 1)
        # Tune has a handler of its own.
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert desk.show("bare-sweep")["state"] == "cancelled"
    done = subprocess.run(
        [*command, "--resume"], cwd=desk.folder, env=dict(os.environ), capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [trial["state"] for trial in desk.show("bare-sweep")["trials"]] == ["succeeded"] * 3
    assert not [process for process in psutil.process_iter() if "--name bare-sweep" in command_of(process)]
    assert Path(desk.store_url, "runs", "bare-sweep", "report.html").exists()
