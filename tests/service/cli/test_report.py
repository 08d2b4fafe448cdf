from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.s3_servers import S3Server
from support.sweeps_in_a_store import write_sweep

from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store
from service.storage.base import Store

Delayline = Callable[..., Any]


@pytest.fixture
def other(local_store: Store) -> RunRecord:
    made = RunRecord(local_store, "other")
    made.claim(TrainSpec(model="cnn", dataset="digits", epochs=1, seed=1), Origin(recipe="cnn-digits"))
    return made


def test_a_report_is_made_in_the_store_and_its_place_printed(delayline: Delayline, submitted: RunRecord) -> None:
    done = delayline("runs", "report", "fake")
    assert (done.code, done.err) == (0, "")
    path = Path(done.out.strip())
    assert path.read_bytes() == submitted.store.read(submitted.paths.report)
    document = delayline("runs", "report", "fake", "--json").document
    assert document == {"run": "fake", "key": "runs/fake/report.html", "path": str(path)}


def test_a_report_goes_to_a_file_and_opens_in_the_browser(
    delayline: Delayline, submitted: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: not opened.append(address))
    target = tmp_path / "page.html"
    done = delayline("runs", "report", "fake", "--to", str(target), "--open")
    assert (done.code, done.out) == (0, f"{target}\n")
    assert opened == [target.as_uri()]
    assert "<!doctype html>" in target.read_text()


def test_without_a_browser_the_page_is_named(
    delayline: Delayline, submitted: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    done = delayline("runs", "report", "fake", "--open")
    assert done.code == 0
    assert "There is no browser to open" in done.err


def test_the_page_of_a_run_in_a_bucket_is_copied_here(
    delayline: Delayline, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(Settings.load(store=f"s3://{seaweedfs.bucket()}/lab"))
    record = RunRecord(store, "remote")
    record.claim(TrainSpec(model="cnn", dataset="digits", epochs=1), Origin(recipe="cnn-digits"))
    done = delayline("runs", "report", "remote", "--store", store.url)
    assert (done.code, done.out) == (0, "remote-report.html\n")
    copy = Path("remote-report.html")
    assert copy.read_bytes() == store.read(record.paths.report)
    copy.unlink()


def test_runs_are_compared(delayline: Delayline, submitted: RunRecord, other: RunRecord, tmp_path: Path) -> None:
    target = tmp_path / "both.html"
    done = delayline("runs", "compare", "fake", "other", "--to", str(target), "--json")
    assert done.document == {"runs": ["fake", "other"], "path": str(target)}
    assert "Comparison of 2 runs" in target.read_text()


def test_a_sweep_has_a_report_and_stands_for_its_best_trial(
    delayline: Delayline, local_store: Store, other: RunRecord, tmp_path: Path
) -> None:
    record = write_sweep(local_store, count=6)
    done = delayline("runs", "report", "a-sweep")
    assert (done.code, done.err) == (0, "")
    assert "Sweep report" in Path(done.out.strip()).read_text()
    assert Path(done.out.strip()).read_bytes() == local_store.read(record.paths.report)
    target = tmp_path / "both.html"
    assert delayline("runs", "compare", "a-sweep", "other", "--to", str(target)).code == 0
    assert "stands for the sweep a-sweep" in target.read_text()
    write_sweep(local_store, "new", state="queued")
    assert delayline("runs", "compare", "new", "other", "--to", str(target)).code == 2


def test_mistakes_are_one_sentence(delayline: Delayline, submitted: RunRecord) -> None:
    assert delayline("runs", "report", "absent").code == 2
    done = delayline("runs", "compare", "fake")
    assert done.code == 2
    assert "There is nothing to compare 'fake' with" in done.err
    assert delayline("runs", "compare", "fake", "absent").code == 2
