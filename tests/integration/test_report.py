"""The page of whole runs: of two workers that succeed, of a run that resumes and then fails."""

import json
import re
from pathlib import Path

import pytest
from support import chromium
from support.workspace import Workspace

from service.records.run_record import RunRecord

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_run_by_two_workers_leaves_its_page(calm: Workspace, browser: chromium.Page, tmp_path: Path) -> None:
    file = Path(calm.store_url) / "runs" / "calm" / "report.html"
    page, run = file.read_text(), calm.show("calm")
    assert len(page.encode()) <= 3_000_000
    results = json.loads(calm.store.read(RunRecord(calm.store, "calm").analysis()["results.json"]))
    right = sum(count for true, predicted, count in results["pairs"] if true == predicted)
    assert right / results["examples"] == pytest.approx(run["metrics"]["test_accuracy"], abs=1e-6)
    assert results["examples"] == 360
    assert 0 < results["all_reduce_seconds"] < 30
    assert "no report" not in [row["event"] for row in run["events"]]
    for words in ("all-reduce was measured apart", "8×8×1, 8 filters 3×3, same padding → 8×8×8", "rank 1", "Filter 8 of 8"):
        assert words in page, words
    browser.look(file.as_uri(), 400, "dark")
    assert (browser.errors, browser.requests) == ([], [file.as_uri()])
    target = tmp_path / "copy.html"
    assert calm.delayline("runs", "report", "calm", "--to", str(target)).code == 0
    made = re.compile(r"Made [^<]* by Delayline")
    assert made.sub("", target.read_text()) == made.sub("", page)


def test_a_run_that_resumes_and_fails(workspace: Workspace) -> None:
    (workspace.folder / "nets.py").write_text((workspace.folder / "nets.py").read_text() + FAILS)
    callbacks = 'callbacks=[{name: "nets:Slow"}, {name: "nets:Fails"}]'
    process = workspace.start(
        "train", "run.yaml", "-s", callbacks, "-s", "steps=5000", "--workers", "1", "--name", "doomed", "--json"
    )
    workspace.wait_for_step("doomed", 20)
    done = workspace.delayline("runs", "report", "doomed")
    assert done.code == 0, done.err
    file = Path(done.out.strip())
    running = file.read_text()
    assert 'class="state running"' in running
    assert "Curve of the loss" in running
    (workspace.folder / "fail").touch()
    assert workspace.end_of(process).code == 3
    failed = file.read_text()
    assert 'class="state failed"' in failed
    assert "a step too far" in failed


FAILS = """
from pathlib import Path

class Fails(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if Path(__file__).with_name("fail").exists():
            raise ValueError("a step too far")
"""
