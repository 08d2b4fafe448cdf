"""Scratch folders: gone after use, also when the process that used them was killed."""

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from service.scratch import ScratchFolder


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def folders(temporary: Path) -> set[Path]:
    return {folder for home in temporary.iterdir() for folder in home.iterdir()}


def test_a_folder_is_this_users_alone_and_gone_after_use(temporary: Path) -> None:
    with ScratchFolder("tests") as name:
        Path(name, "file").write_text("kept")
        assert Path(name).stat().st_mode & 0o077 == 0
        assert Path(name).parent.stat().st_mode & 0o077 == 0
    assert not folders(temporary)


def test_what_a_killed_process_left_goes_with_the_next_folder_and_what_lives_stays(temporary: Path) -> None:
    code = "import sys; from service.scratch import ScratchFolder; folder = ScratchFolder('other'); print(folder.name, flush=True); input()"
    pipe = subprocess.PIPE
    environment = {"TMPDIR": str(temporary)}
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True, env=environment) as other:
        try:
            assert other.stdout
            theirs = Path(other.stdout.readline().strip())
            Path(theirs, "inner").mkdir()
            with ScratchFolder("tests") as name:
                assert folders(temporary) == {theirs, Path(name)}
                with ScratchFolder("tests"):
                    assert {theirs, Path(name)} < folders(temporary)
        finally:
            other.kill()
    assert theirs.exists()
    with ScratchFolder("tests") as name:
        assert folders(temporary) == {Path(name)}


def test_a_folder_that_nobody_cleans_up_goes_with_its_object(temporary: Path) -> None:
    folder = ScratchFolder("tests")
    with pytest.warns(ResourceWarning):
        del folder
    assert not folders(temporary)


def test_many_threads_at_once_take_nothing_from_each_other(temporary: Path) -> None:
    lost = []

    def use() -> None:
        for _ in range(50):
            with ScratchFolder("tests") as name:
                file = Path(name, "file")
                file.write_text("kept")
                if file.read_text() != "kept" or not Path(name).is_dir():
                    lost.append(name)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not lost
    assert not folders(temporary)


def test_a_name_that_is_taken_by_a_link_is_not_followed(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScratchFolder("tests") as name:
        home = Path(name).parent
    home.rmdir()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    home.symlink_to(elsewhere)
    with ScratchFolder("tests") as name:
        assert Path(name).parent == temporary
        assert not list(elsewhere.iterdir())


def test_a_file_system_without_locks_gives_folders_all_the_same(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with ScratchFolder("tests") as first, ScratchFolder("tests") as second:
        assert {Path(first).parent, Path(second).parent} == {temporary}
    assert [path.name for path in temporary.iterdir()] == [f"delayline-{os.getuid()}"]
    assert not folders(temporary)
