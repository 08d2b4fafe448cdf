"""What doctor says of the memory and the disk that a head needs."""

import shutil
from pathlib import Path

import pytest

from service import machine
from service.doctor.findings import Line, examine
from service.doctor.head import head_checks
from service.settings import GIB, Settings

MIB = 1024**2


def look(monkeypatch: pytest.MonkeyPatch, folder: Path, limit: int | None, free: int = 20 * GIB, pod: bool = False) -> Line:
    """The line of a machine with this limit of memory, by its recorded control group of version 2."""
    groups = folder / "sys" / "fs" / "cgroup"
    groups.mkdir(parents=True)
    (groups / "memory.max").write_text("max\n" if limit is None else f"{limit}\n")
    monkeypatch.setattr(machine, "ROOT", folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(30 * GIB, 30 * GIB - free, free))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    if pod:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    else:
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    (line,) = examine([head_checks(Settings.load())], 9)
    return line


def test_a_machine_that_is_no_container_is_told_what_a_head_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = look(monkeypatch, tmp_path, None)
    assert (line.status, line.text.partition(";")[0]) == ("ok", "this is no container")
    assert "0.9 GiB of memory, better 2, and 1 GiB of disk, which is empty in a head that is made anew" in line.text


@pytest.mark.parametrize(
    ("limit", "status", "said"),
    [
        (900 * MIB, "failed", "too little memory for a head, which takes 0.9 GiB with a driver; give it a limit of 2 GiB."),
        (1536 * MIB, "ok", "; as a head it should have 2 GiB, for sweeps and long runs"),
        (2 * GIB, "ok", "; a head with a driver takes 0.9 GiB"),
    ],
)
def test_a_container_with_little_memory_is_warned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: int, status: str, said: str
) -> None:
    line = look(monkeypatch, tmp_path, limit, pod=True)
    assert line.status == status
    assert line.text.startswith(f"this container has {limit / GIB:.1f} GiB of memory and 20.0 GiB free in {tmp_path}")
    assert said in line.text


def test_a_pod_without_a_limit_has_its_nodes_memory_and_a_full_disk_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = look(monkeypatch, tmp_path, None, free=500 * MIB, pod=True)
    assert line.status == "failed"
    assert line.text.endswith("give it 1 GiB, or set TMPDIR and RAY_TMPDIR to a folder with more.")
