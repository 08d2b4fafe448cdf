from pathlib import Path

import pytest

from service import machine


def test_without_control_groups_nothing_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(machine, "_MEMORY", (tmp_path / "memory.max",))
    assert machine.processor_limit() == machine.memory_limit() == machine.UNLIMITED


@pytest.mark.parametrize(("text", "processors"), [("150000 100000", 2), ("100000 100000", 1), ("max 100000", machine.UNLIMITED)])
def test_counts_a_part_of_a_processor_as_one(text: str, processors: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    monkeypatch.setattr(machine, "_QUOTA", tmp_path / "cpu.max")
    assert machine.processor_limit() == processors


@pytest.mark.parametrize(
    ("second", "first", "limit"), [("4096", None, 4096), ("max", None, machine.UNLIMITED), (None, "512", 512)]
)
def test_reads_the_limit_of_memory_of_either_version(
    second: str | None, first: str | None, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = (tmp_path / "memory.max", tmp_path / "limit_in_bytes")
    for path, text in zip(paths, (second, first), strict=True):
        if text is not None:
            path.write_text(f"{text}\n")
    monkeypatch.setattr(machine, "_MEMORY", paths)
    assert machine.memory_limit() == limit
