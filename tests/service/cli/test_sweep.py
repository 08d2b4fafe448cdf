import json
from collections.abc import Callable
from typing import Any

import pytest
from support.workspace import Done

from service.cli.sweep_display import cells, describe, parameters
from service.storage.base import Store

SWEEP = ("sweep", "sweep-digits", "-s", "base.worker.cpus=0.01")


def test_a_dry_run_lists_the_trials(delayline: Callable[..., Done], local_store: Store) -> None:
    done = delayline(*SWEEP, "--dry-run", "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert (document["kind"], document["trials"]) == ("sweep", 12)
    assert document["command"][1:5] == ["-P", "-m", "jobs.sweep", "--run"]
    assert "trials: 12" in delayline(*SWEEP, "--dry-run").out
    assert not list(local_store.objects(""))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sweep", "no-such"), "no recipe 'no-such'"),
        (("sweep", "cnn-digits"), "is a recipe of one run"),
        (("train", "sweep-digits"), "is a sweep: start it by `delayline sweep sweep-digits`"),
        ((*SWEEP, "-s", "metric=beauty"), "No trial reports the metric"),
        ((*SWEEP, "-s", "space.batch={grid: []}"), "space.batch.grid"),
        ((*SWEEP, "-s", "trials=null"), "draws points without end"),
        ((*SWEEP, "--resume"), "--name"),
        ((*SWEEP, "--workers", "3"), "cannot be shared out"),
    ],
)
def test_bad_input_is_one_sentence(
    delayline: Callable[..., Done], arguments: tuple[str, ...], words: str, local_store: Store
) -> None:
    done = delayline(*arguments)
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert words in done.err
    assert not list(local_store.objects(""))


def test_a_line_shows_how_far_the_sweep_is() -> None:
    best: dict[str, Any] = {"metric": "val_loss", "mean": 0.25, "params": {"optimizer.learning_rate": 0.00123456, "batch": 8}}
    progress = {"trials": {"succeeded": 3, "running": 2, "stopped": 1}, "total": 8, "best": best, "eta_seconds": 40.0}
    assert describe(progress).startswith("4 of 8 trials: 2 running, 1 stopped, 3 succeeded")
    assert "best val_loss 0.2500 (learning_rate=0.001235 batch=8)" in describe(progress)
    assert "about 0:40 left" in describe(progress)
    assert describe({"trials": {}, "total": None}) == "0 trials"
    table = [{"base": "lstm"}, {"base": "gru"}]
    assert "best val_loss 0.2500 (gru learning_rate=" in describe({**progress, "best": {**best, "base": "gru"}, "table": table})


def test_a_row_of_the_table_says_who_stopped_the_trial() -> None:
    row = {
        "id": "s-0001",
        "params": {"batch": 8},
        "seed": 1,
        "state": "stopped",
        "stopped": {"by": "asha"},
        "epoch": 3,
        "epochs": 9,
        "value": 0.5,
    }
    assert cells(row) == ["s-0001", "batch=8 seed 1", "stopped by asha", "3/9", "0.5000"]
    assert cells({**row, "base": "lstm"}, named=True)[1] == "lstm batch=8 seed 1"
    assert parameters({"params": {}}) == ""
    nested = {
        "optimizer.learning_rate.name": "cosine",
        "augment": [{"name": "flip"}, {"pixels": 2, "name": "shift"}],
        "units": [3],
    }
    assert parameters({"params": nested}) == "learning_rate.name=cosine augment=flip+shift(2) units=[3]"
    changed = {**row, "seed": 0, "state": "succeeded", "mutations": 2}
    assert cells(changed)[1:3] == ["batch=8 (after 2 take-overs)", "succeeded"]
