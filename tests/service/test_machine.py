from pathlib import Path

import pytest

from service import machine
from service.errors import InvalidInput
from service.machine import Machine, this_machine
from service.specs.parts import Resources


def test_counts_at_least_one_processor() -> None:
    assert this_machine().cpus >= 1


@pytest.mark.parametrize(("workers", "cpus", "gpus"), [(2, 1, 0), (3, 0.66, 0), (1, 2, 0), (4, 0.5, 0), (1, 1, 1)])
def test_accepts_what_fits(workers: int, cpus: float, gpus: int) -> None:
    Machine(cpus=2, gpus=1).check(workers, Resources(cpus=cpus, gpus=gpus))


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "remedy"),
    [
        (3, 1, 0, "3 workers of 1 CPU need 3; this machine has 2: use --workers 2 or -s worker.cpus=0.66"),
        (1, 4, 0, "1 worker of 4 CPUs needs 4; this machine has 2: use -s worker.cpus=2"),
        (2, 1, 1, "2 workers of 1 GPU need 2; this machine has 1: use --workers 1 or -s worker.gpus=0"),
    ],
)
def test_refuses_more_than_there_is_and_says_what_fits(workers: int, cpus: float, gpus: int, remedy: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Machine(cpus=2, gpus=1).check(workers, Resources(cpus=cpus, gpus=gpus))
    assert str(raised.value) == f"{remedy}."


def test_refuses_more_memory_than_there_is() -> None:
    machine = Machine(cpus=8, gpus=0, memory=4_000_000_000)
    machine.check(2, Resources(memory=2_000_000_000))
    with pytest.raises(InvalidInput) as raised:
        machine.check(3, Resources(memory=2_000_000_000))
    assert str(raised.value) == (
        "3 workers of 2000MB of memory need 6000MB; this machine has 4000MB: use --workers 2 or -s worker.memory=1333MB."
    )


def test_counts_what_the_containers_quota_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = tmp_path / "sys" / "fs" / "cgroup"
    groups.mkdir(parents=True)
    (groups / "cpu.max").write_text("100000 100000\n")
    (groups / "memory.max").write_text(f"{10**9}\n")
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert (this_machine().cpus, this_machine().memory) == (1, 10**9)


@pytest.mark.parametrize(("visible", "gpus"), [(None, 3), ("", 0), ("-1", 0), ("NoDevFiles", 0), ("2", 1), ("0,1,2,3", 3)])
def test_counts_the_gpus_that_cuda_shows_this_process(
    visible: str | None, gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
    monkeypatch.setattr(machine, "GPUS", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert this_machine().gpus == gpus
