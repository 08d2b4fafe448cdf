"""A run that starts from another's weights: killed, it ends like the run `calm`; its workers change nothing; its source may go."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.workspace import Workspace, assert_same_end, kill, tensors

from service.records.run_record import RunRecord

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FROZEN = ("conv2d/", "batch_normalization/")
TUNED = """
recipe: cnn-digits
model: nets:build
callbacks: [{name: "nets:Slow"}]
init_from: base
freeze: [conv2d, batch_normalization]
model_params: {dropout: 0}
training_examples: 480
steps: 80
batch: 48
seed: 8
workers: 2
checkpoint: {every_steps: 20, keep_last: 3}
log_every: 5
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with the run `base` and the run `calm`, which started from it."""
    folder = tmp_path_factory.mktemp("lab")
    made = Workspace(folder / "workspace", str(folder / "store"))
    (made.folder / "tuned.yaml").write_text(TUNED)
    for arguments in (
        ["run.yaml", "--name", "base", "-s", "steps=40", "-s", "callbacks=[]", "-s", "model_params.dropout=0"],
        ["tuned.yaml", "--name", "calm"],
    ):
        done = made.delayline("train", *arguments, "--json")
        assert done.code == 0, done.err
    yield made
    made.clean_up()


def test_says_what_it_took_and_keeps_what_is_frozen(lab: Workspace) -> None:
    run, ours, base = lab.show("calm"), tensors(lab, "calm"), tensors(lab, "base")
    (began,) = [row for row in run["events"] if row["event"] == "initialised"]
    assert (began["run"], began["step"], began["new"]) == ("base", 40, {})
    assert began["taken"] == ["conv2d", "batch_normalization", "dense"]
    assert began["key"] == f"{run_path(lab, 'base')}model.safetensors"
    for name, array in base.items():
        if name.startswith("model/") and "seed" not in name:
            frozen = name.split(" ")[1].startswith(FROZEN)
            assert (array.tobytes() == ours[name].tobytes()) == frozen, name
    assert sum(name.split(" ")[1].startswith(FROZEN) for name in base if name.startswith("model/")) == 5
    assert run["history"][0]["loss"] < lab.show("base")["history"][0]["loss"]
    summary = RunRecord(lab.store, "calm").progress().model_summary
    assert "Non-trainable params: 104 " in summary


def run_path(workspace: Workspace, run_id: str) -> str:
    return str(workspace.show(run_id)["checkpoints"][-1]["path"])


def test_a_kill_changes_nothing_though_the_source_is_gone(lab: Workspace) -> None:
    process = lab.start("train", "tuned.yaml", "--name", "killed", "--json")
    run = lab.wait_for_step("killed", 20)
    base = Path(lab.store_url) / "runs" / "base"
    base.rename(base.parent / "base-hidden")
    try:
        kill([psutil.Process(run["attempts"][-1]["workers"][-1]["pid"])])
        done = lab.end_of(process)
    finally:
        (base.parent / "base-hidden").rename(base)
    assert done.code == 0, done.err
    assert len(done.document["attempts"]) == 2
    assert [row["event"] for row in done.document["events"]].count("initialised") == 1
    assert_same_end(lab, "killed", lab)


def test_the_workers_change_nothing(lab: Workspace) -> None:
    """Of Keras' own file, which holds the same weights as the checkpoint."""
    changes = ("-s", "init_from=runs/base/model.keras", "-s", "callbacks=[]")
    done = lab.delayline("train", "tuned.yaml", *changes, "--workers", "1", "--name", "alone", "--json")
    assert done.code == 0, done.err
    ours, theirs = ([row["loss"] for row in run["history"] if "loss" in row][:6] for run in (done.document, lab.show("calm")))
    assert len(ours) == 6
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_a_source_that_is_not_there_starts_nothing(lab: Workspace) -> None:
    for source, words in (("absent", "There is no run 'absent'"), ("self", "cannot start from itself"), ("a.keras", "no file")):
        done = lab.delayline("train", "tuned.yaml", "-s", f"init_from={source}", "--name", "self")
        assert (done.code, len(done.err.strip().splitlines())) == (2, 1), done.err
        assert words in done.err
    assert not (Path(lab.store_url) / "runs" / "self").exists()


def test_what_does_not_fit_ends_the_run_with_a_sentence(lab: Workspace) -> None:
    done = lab.delayline("train", "lenet5-digits", "-s", "init_from=base", "--workers", "1", "--name", "misfit")
    assert done.code == 2, done.err
    assert "Nothing of the run base at step 40 fits the model" in done.err
    assert "Traceback" not in done.err
