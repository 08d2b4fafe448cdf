"""`python -m jobs.report` as a whole process: pages, exit codes, one sentence for what is wrong."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin
from service.specs.train import TrainSpec
from service.storage.local import LocalStore

Report = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def store(tmp_path: Path, make_spec: Callable[..., TrainSpec]) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    for name in ("one", "two"):
        RunRecord(store, name).claim(make_spec(), Origin(recipe="cnn-digits", command=["delayline", "train"]))
    return store


@pytest.fixture
def make_report(store: LocalStore) -> Report:
    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-m", "jobs.report", *arguments, "--store", store.url]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    return call


def test_a_runs_page_is_written_to_the_store_and_to_a_file(make_report: Report, store: LocalStore, tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "page.html"
    done = make_report("--run", "one", "--to", str(target))
    assert (done.returncode, done.stderr) == (0, "")
    assert target.read_bytes() == store.read(RunRecord(store, "one").paths.report)


def test_runs_are_compared_in_a_file(make_report: Report, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert make_report("--compare", "one", "two", "--to", str(target)).returncode == 0
    assert "Comparison of 2 runs" in target.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "absent"], "There is no run 'absent'"),
        (["--compare", "one", "two"], "say where to write it by --to FILE"),
        (["--compare", "one", "--to", "x.html"], "takes 2 to 16 runs, not 1"),
        (["--run", "one", "--to", "/dev/null/page.html"], "cannot be written"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(make_report: Report, arguments: list[str], words: str) -> None:
    done = make_report(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_it_imports_no_tensorflow() -> None:
    code = "import sys, jobs.report, jobs.reports.page, jobs.reports.comparison; print({'tensorflow', 'keras', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
