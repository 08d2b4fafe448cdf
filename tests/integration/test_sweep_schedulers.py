"""Sweeps on a real Ray whose trials do not all train to their ends: stopped early, taken over in a population, out of budget."""

import json

import pytest
from support.workspace import Workspace, family, kill

from service.records.run_record import RunRecord

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


SHORT = ("-s", "base.worker.cpus=1", "-s", "base.steps=40", "-s", "base.checkpoint.every_steps=10")


def put(workspace: Workspace, text: str) -> None:
    (workspace.folder / "sweep.yaml").write_text(text)


def test_asha_stops_trials_which_can_be_resumed_alone(workspace: Workspace) -> None:
    text = """
base: run.yaml
space: {optimizer.learning_rate.initial: {grid: [0.01, 0.003, 0.001, 1.0e-7, 1.0e-8, 1.0e-9]}}
scheduler: {name: asha, grace_epochs: 1, reduction: 2}
metric: val_loss
mode: min
"""
    put(workspace, text)
    changes = ("base.epochs=4", "base.worker.cpus=1", "base.callbacks=[]", "base.checkpoint={every_epochs: 1}")
    done = workspace.delayline(
        "sweep", "sweep.yaml", *(word for change in changes for word in ("-s", change)), "--name", "early", "--json"
    )
    assert done.code == 0, done.err
    stopped = [trial for trial in done.document["trials"] if trial["state"] == "stopped"]
    assert stopped
    assert done.document["best"]["params"]["optimizer.learning_rate.initial"] >= 0.001
    for trial in stopped:
        assert trial["stopped"]["by"] == "asha"
        assert trial["epoch"] < 4
    again = workspace.delayline("train", "--resume", "--name", stopped[0]["id"], "--json")
    assert again.code == 0, again.err
    assert again.document["epoch"] == 4
    assert again.document["state"] == "succeeded"


def test_in_a_population_bad_trials_take_over_from_good_ones_though_all_was_killed_once(workspace: Workspace) -> None:
    text = """
base: run.yaml
space: {optimizer.learning_rate.initial: {grid: [0.01, 0.003, 1.0e-8, 1.0e-9]}}
scheduler: {name: pbt, grace_epochs: 1, quantile: 0.5}
"""
    put(workspace, text)
    changes = ("base.epochs=8", "base.worker.cpus=1", "base.callbacks=[]", "base.checkpoint={every_epochs: 1}")
    command = ("sweep", "sweep.yaml", *(word for change in changes for word in ("-s", change)), "--name", "all", "--json")
    process = workspace.start(*command)
    workspace.wait_for("all", lambda _: any(trial.mutations for trial in RunRecord(workspace.store, "all").trials()))
    kill(family(process.pid))
    process.wait()
    noted = RunRecord(workspace.store, "all").trials()
    before = {trial.id: [each.params for each in trial.mutations] for trial in noted if trial.mutations}
    assert before
    done = workspace.delayline(*command, "--resume")
    assert done.code == 0, done.err
    trials = done.document["trials"]
    assert [trial["state"] for trial in trials] == ["succeeded"] * 4
    for trial in trials:
        run = workspace.show(trial["id"])
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


def test_a_budget_ends_a_sweep_of_which_all_that_could_end_ended(workspace: Workspace) -> None:
    put(
        workspace,
        "base: run.yaml\nspace: {optimizer.learning_rate.initial: {loguniform: [0.001, 0.01]}}\nsearch: tpe\nbudget: 30s\n",
    )
    done = workspace.delayline("sweep", "sweep.yaml", *SHORT, "--name", "short", "--json")
    assert done.code == 0, done.err
    assert [row["event"] for row in done.document["events"]].count("budget") == 1
    states = {trial["state"] for trial in done.document["trials"]}
    assert states <= {"succeeded", "stopped"}
    assert json.dumps(done.document["best"])
