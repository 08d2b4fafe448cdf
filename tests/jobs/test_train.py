"""What `python -m jobs.train` refuses before it claims a run: the same as the plan of `delayline train`. None of these trains."""

from pathlib import Path

import pytest

from jobs import train
from service.records.run_record import RunRecord
from service.storage.base import Store

SMALL = ("cnn-digits", "-s", "worker.cpus=0.01", "--name", "a-run")


@pytest.fixture(autouse=True)
def _driven(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A driver would start Ray: here it lets go of its lease at once."""
    monkeypatch.setattr(train, "drive", lambda *arguments: arguments[-1].release() or 0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model=cn", "did you mean 'cnn'"),
        ("model=absent:build", "is not found from"),
        ("model_params.dropuot=0", "no parameter 'dropuot'"),
        ("dataset=letters", "letters"),
        ("batch=1700", "use -s batch="),
        ("evaluate.validation=0.0001", "is none"),
        ("early_stopping={metric: los}", "did you mean 'loss'"),
        ("worker.cpus=4000", "this machine has"),
        ("init_from=absent", "no run 'absent'"),
    ],
)
def test_what_the_plan_refuses_is_refused_in_one_sentence_and_nothing_is_claimed(
    change: str, words: str, local_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*SMALL, "-s", change, "--store", local_store.url]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert len(told.splitlines()) == 1
    assert not list(local_store.objects(""))


def test_a_run_that_is_claimed_is_not_checked_again(local_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    own = [*SMALL, "-s", "model=nets_of_mine:build", "--store", local_store.url]
    Path("nets_of_mine.py").touch()
    assert train.main(own) == 0
    assert RunRecord(local_store, "a-run").submission().dataset_version == "uci-1998"
    Path("nets_of_mine.py").unlink()
    assert train.main(own) == 0
    assert train.main([*own, "-s", "batch=16"]) == 2
    assert "batch is 64 there, 16 here" in capsys.readouterr().err


def test_a_cluster_that_exists_is_not_measured_by_this_machine(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert train.main([*SMALL, "-s", "worker.cpus=4000", "--store", local_store.url]) == 0
    assert RunRecord(local_store, "a-run").spec().worker.cpus == 4000
