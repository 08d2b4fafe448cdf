"""A store that the first format's last commit wrote is read, listed, shown, and resumed."""

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from jobs.artifacts.checkpoints import CheckpointStore
from jobs.inference.finished_run import finished_run
from jobs.reports.write import write_report
from service import runs
from service.records.first_weights import find_weights
from service.records.run_record import RunRecord
from service.runs.log_follower import follow
from service.settings import Settings
from service.specs.parts import CheckpointPolicy
from service.storage import open_store
from service.storage.base import Store
from service.storage.paths import number_of

ARCHIVE = Path(__file__).parent / "data" / "first_store_format.zip"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path / "store")
        # As old as they are: a lease whose file was written this minute is a living driver's, on any machine but that which wrote it.
        for entry in archive.infolist():
            written = time.mktime((*entry.date_time, 0, 0, -1))
            os.utime(tmp_path / "store" / entry.filename, (written, written))
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Store:
    return open_store(Settings.load(store=str(folder)))


def never(step: int, why: str) -> None:
    raise AssertionError(f"{step}: {why}")


def test_its_runs_are_listed(store: Store) -> None:
    assert {row.id: row.state for row in runs.list_runs(store)} == {
        "finished": "succeeded",
        "killed": "lost",
        "stopped": "cancelled",
        "failed": "failed",
        "pair": "succeeded",
        "pair-0000": "succeeded",
        "pair-0001": "succeeded",
    }


def test_a_run_that_ended_is_shown_whole(store: Store) -> None:
    document = runs.show(store, "finished")
    assert [attempt.reason for attempt in document.attempts] == [
        "Worker 0 was lost: A worker health check failed.",
        "succeeded",
    ]
    assert [each.path for each in document.checkpoints] == [
        "runs/finished/checkpoints/0000088000/",
        "runs/finished/checkpoints/0000090000/",
    ]
    steps = [row.step for row in document.history]
    assert steps[-1] == 90000 and steps == sorted(set(steps)) and len(steps) > 50
    assert {"attempt", "attempt failed", "resumed", "checkpoint", "training", "ended"} <= {row.event for row in document.events}
    assert document.metrics["test_accuracy"] > 0.1
    assert {row.attempt for row in document.events} == {1, 2}


def test_a_sweep_is_shown_with_its_trials(store: Store) -> None:
    document = runs.show(store, "pair")
    assert [trial.state for trial in document.trials] == ["succeeded", "succeeded"]
    assert document.best.trial in ("pair-0000", "pair-0001")
    assert runs.show(store, "pair-0001").history


def test_logs_are_printed_and_followed(store: Store) -> None:
    (last, *_) = [log for log in runs.logs(store, "finished") if log.rank == 0]
    assert last.attempt == 2 and "attempt 2" in last.text and last.text.endswith("done\n")
    assert "worker 0 of 1" in runs.logs(store, "finished", 1, 0)[0].text
    assert {log.rank for log in runs.logs(store, "finished", 2)} == {None, 0}
    followed = "".join(lines.text for lines in follow(store, "stopped", rank=0))
    assert followed == runs.logs(store, "stopped", rank=0)[0].text


@pytest.mark.parametrize("name", ["finished", "killed", "stopped", "failed", "pair"])
def test_its_page_is_made(store: Store, name: str) -> None:
    record = RunRecord(store, name)
    write_report(record)
    page = store.read(record.paths.report).decode()
    assert "dense" in page
    # The layers stand in the analysis.
    assert ("logits" in page) == (name != "pair")


def test_its_weights_and_its_model_are_found(store: Store, tmp_path: Path) -> None:
    found = find_weights(store, "finished")
    assert (found.step, found.key) == (90000, "runs/finished/checkpoints/0000090000/model.safetensors")
    model = finished_run(RunRecord(store, "finished"), "to export").model(tmp_path)
    assert model.count_params() == 310


def test_the_next_attempt_takes_its_checkpoints_and_rows_over(store: Store) -> None:
    record = RunRecord(store, "killed")
    assert record.nonce == ""
    label = record.label(2)
    made = CheckpointStore(record, CheckpointPolicy(every_steps=1, keep_last=2), label)
    found = made.load_newest(never)
    assert found is not None and found.step == 12000 and found.history[-1]["step"] <= 12000
    made.adopt(12000)
    ledger = record.metrics_ledger(label)
    ledger.restart(found.sealed, found.history)
    ledger.add({"step": 12345, "loss": 1.0})
    ledger.flush()
    assert record.metric_rows() == [*found.history, {"step": 12345, "loss": 1.0}]
    made.save(found.__class__(**{**vars(found), "step": 16000}))
    assert [each.path for each in record.checkpoints()] == [
        "runs/killed/checkpoints/0000012000/",
        "runs/killed/checkpoints/0000016000-0002/",
    ]
    assert number_of("0002", "") == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "resume"), [("killed", False), ("stopped", True)])
def test_it_is_resumed_to_its_end(folder: Path, store: Store, name: str, resume: bool, tmp_path: Path) -> None:
    before = RunRecord(store, name).metric_rows()
    command = [sys.executable, "-m", "jobs.train", "--run", name, "--store", str(folder), *(["--resume"] if resume else [])]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "DELAYLINE_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    document, whole = runs.show(store, name), runs.show(store, "finished")
    assert document.state == "succeeded", json.dumps(document.error)
    resumed = [row.step for row in document.events if row.event == "resumed"]
    assert resumed and resumed[-1] >= 12000
    rows = [row for row in before if row["step"] <= resumed[-1]]
    assert [row.document() for row in document.history[: len(rows)]] == rows
    steps = [row.step for row in document.history]
    assert {row.step for row in whole.history} <= set(steps)
    assert steps == sorted(set(steps))
    assert document.checkpoints[-1].path == f"runs/{name}/checkpoints/0000090000-{len(document.attempts):04d}/"
