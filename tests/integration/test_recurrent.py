"""Recurrent runs on generated sequences; test_training.py has them at any number of workers."""

from pathlib import Path

import pytest
from support.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SHORT = ["dataset_params.delay=3", "dataset_params.sequences=100", "batch=30", "worker.cpus=0.5", "checkpoint={every_steps: 4}"]


def changed(*keys: str) -> list[str]:
    return [part for key in keys for part in ("-s", key)]


def test_its_report_shows_the_memory(workspace: Workspace) -> None:
    done = workspace.delayline("train", "bit-memory-rnn", *changed(*SHORT, "steps=60"), "--name", "remembers", "--json")
    assert done.code == 0, done.err
    assert not [event for event in done.document["events"] if event["event"] in ("not described", "not analysed")]
    page = (Path(workspace.store_url) / "runs" / "remembers" / "report.html").read_text()
    assert "What it remembers" in page and "What the hidden units hold" in page


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataset_params.delay=80", "delay"),
        ("dataset_params={delay: 20, length: 20}", "leaves nothing to recall"),
        ("dataset_params.colour=red", "no parameter 'colour'"),
        ("dataset=digits", "takes no dataset_params"),
        ("model=cnn", "one for each step"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(workspace: Workspace, override: str, words: str) -> None:
    overrides = changed("dataset_params.length=70", override)
    done = workspace.delayline("train", "bit-memory-lstm", *overrides, "--name", "bad")
    assert done.code == 2 and words in done.err
    assert "Traceback" not in done.err and len(done.err.strip().splitlines()) == 1
    assert not (Path(workspace.store_url) / "runs" / "bad").exists()
