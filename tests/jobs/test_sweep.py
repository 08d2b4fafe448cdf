"""What `python -m jobs.sweep` refuses before it claims a sweep: the same as the plan of `delayline sweep`. None of these trains."""

from pathlib import Path

import pytest

from jobs import sweep
from service.records.run_record import RunRecord
from service.storage.base import Store
from service.storage.json_documents import to_bytes

SWEEP = """
base: {recipe: lenet5-digits, workers: 1, worker: {cpus: 0.01}}
space:
  batch: {grid: [16, 32]}
"""


@pytest.fixture(autouse=True)
def _driven(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A driver would start Ray: here it lets go of its lease at once."""
    monkeypatch.setattr(sweep, "drive", lambda *arguments: arguments[-1].release() or 0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text(SWEEP)


def run(store: Store, *arguments: str, name: str = "a-sweep") -> int:
    return sweep.main(["sweep.yaml", *arguments, "--name", name, "--store", store.url])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("metric=val_acuracy", "did you mean 'val_accuracy'"),
        ("space.batch={grid: [16, 100000]}", "A batch of 100000 is larger"),
        ("space.model={grid: [lenet5, lenet7]}", "no model 'lenet7'"),
        ("space.dataset={grid: [digits, letters]}", "no dataset 'letters'"),
        ("space.batch=null", "space is empty"),
        ("search=random", "draws points without end"),
        ("base.worker.cpus=1000", "this machine has"),
    ],
)
def test_what_the_plan_refuses_is_refused_in_one_sentence_and_nothing_is_claimed(
    change: str, words: str, local_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(local_store, "-s", change) == 2
    told = capsys.readouterr().err
    assert words in told
    assert len(told.splitlines()) == 1
    assert not list(local_store.objects(""))


def test_an_id_leaves_room_for_those_of_the_trials(local_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(local_store, name="a" * 42) == 2
    assert "has 42 characters, but its trials add 6 to it: use at most 41" in capsys.readouterr().err
    assert not list(local_store.objects(""))
    assert run(local_store, name="a" * 41) == 0
    Path("sweep.yaml").rename(f"{'s' * 60}.yaml")
    assert sweep.main([f"{'s' * 60}.yaml", "--store", local_store.url]) == 0
    assert {len(info.key.split("/")[1]) for info in local_store.objects("runs/")} == {41}


def test_a_sweep_that_is_claimed_is_not_checked_again(local_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("-s", "base.model=nets_of_mine:build")
    Path("nets_of_mine.py").touch()
    assert run(local_store, *own) == 0
    assert RunRecord(local_store, "a-sweep").submission().dataset_version == "uci-1998"
    Path("nets_of_mine.py").unlink()
    assert run(local_store, *own) == 0
    assert run(local_store, *own, "-s", "seeds=2") == 2
    assert "seeds is 1 there, 2 here" in capsys.readouterr().err


def test_a_cluster_that_exists_is_not_measured_by_this_machine(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert run(local_store, "-s", "base.worker.cpus=1000") == 0


def test_a_sweep_of_an_earlier_version_is_the_same_though_its_spec_lacks_a_key(local_store: Store) -> None:
    assert run(local_store) == 0
    record = RunRecord(local_store, "a-sweep")
    stored = record.submission()
    assert stored.spec.pop("order") == "nested"
    local_store.write(record.paths.spec, to_bytes(stored.document()))
    assert run(local_store) == 0
