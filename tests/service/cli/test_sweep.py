import json
from collections.abc import Callable

import pytest
from support.workspace import Done

from service.cli.sweep_display import cells, describe, parameters
from service.records.schemas import ProgressDocument
from service.records.sweep_schemas import TableRow
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


BEST = {
    "point": 0,
    "base": "lstm",
    "params": {"optimizer.learning_rate": 0.00123456, "batch": 8},
    "mean": 0.25,
    "spread": None,
    "count": 1,
    "trials": ["s-0000"],
    "states": ["succeeded"],
    "metric": "val_loss",
    "trial": "s-0000",
}
ROW = TableRow(
    id="s-0001", base="lstm", params={"batch": 8}, seed=1, state="stopped", stopped={"by": "asha"}, epoch=3, epochs=9, value=0.5
)


def test_a_line_shows_how_far_the_sweep_is() -> None:
    progress = ProgressDocument(trials={"succeeded": 3, "running": 2, "stopped": 1}, total=8, best=BEST, eta_seconds=40.0)
    assert describe(progress).startswith("4 of 8 trials: 2 running, 1 stopped, 3 succeeded")
    assert "best val_loss 0.2500 (learning_rate=0.001235 batch=8)" in describe(progress)
    assert "about 0:40 left" in describe(progress)
    assert describe(ProgressDocument(trials={})) == "0 trials"
    table = (ROW, ROW.changed(base="gru"))
    best = progress.best.changed(base="gru")
    assert "best val_loss 0.2500 (gru learning_rate=" in describe(progress.changed(best=best, table=table))


def test_a_row_of_the_table_says_who_stopped_the_trial() -> None:
    assert cells(ROW) == ["s-0001", "batch=8 seed 1", "stopped by asha", "3/9", "0.5000"]
    assert cells(ROW, named=True)[1] == "lstm batch=8 seed 1"
    assert parameters(ROW.changed(params={}, seed=0)) == ""
    nested = {
        "optimizer.learning_rate.name": "cosine",
        "augment": [{"name": "flip"}, {"pixels": 2, "name": "shift"}],
        "units": [3],
    }
    assert parameters(ROW.changed(params=nested, seed=0)) == "learning_rate.name=cosine augment=flip+shift(2) units=[3]"
    changed = ROW.changed(seed=0, state="succeeded", mutations=2)
    assert cells(changed)[1:3] == ["batch=8 (after 2 take-overs)", "succeeded"]
