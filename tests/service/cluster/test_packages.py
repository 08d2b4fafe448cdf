import io
import zipfile
from pathlib import Path

import pytest

from service.cluster import packages
from service.cluster.packages import collect
from service.errors import InvalidInput


def write(folder: Path, *names: str, text: str = "") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(folder: Path, *modules: str) -> list[str]:
    package = collect(modules, folder)
    return list(package.files) if package else []


def test_a_module_travels_alone(tmp_path: Path) -> None:
    write(tmp_path, "nets.py", "other.py", "data.npz", "run.yaml", ".git/config", "delayline-store/runs/a/spec.json")
    assert names(tmp_path, "nets") == ["nets.py"]


def test_a_package_travels_whole_without_hidden_files_caches_and_environments(tmp_path: Path) -> None:
    write(tmp_path, "mine/__init__.py", "mine/deep/nets.py", "mine/deep/words.txt", "other/__init__.py")
    write(tmp_path, "mine/.env", "mine/.git/config", "mine/__pycache__/x.pyc", "mine/venv/pyvenv.cfg", "mine/venv/lib/x.py")
    assert names(tmp_path, "mine.deep.nets", "mine.callbacks") == ["mine/__init__.py", "mine/deep/nets.py", "mine/deep/words.txt"]


def test_what_they_import_from_the_folder_travels_too(tmp_path: Path) -> None:
    write(tmp_path, "nets.py", text="import json, keras\nfrom sizes import UNITS\ndef build():\n    import late.part\n")
    write(tmp_path, "sizes.py", text="import nets\n")
    write(tmp_path, "late/part.py", text="from . import other\n")
    write(tmp_path, "late/other.py", text="this is no Python\n")
    write(tmp_path, "unused.py", text="import never\n")
    assert names(tmp_path, "nets") == ["late/other.py", "late/part.py", "nets.py", "sizes.py"]


def test_a_folder_of_data_with_the_name_of_an_installed_package_stays(tmp_path: Path) -> None:
    write(tmp_path, "nets.py", text="import yaml\n")
    write(tmp_path, "yaml/pictures.npz")
    assert names(tmp_path, "nets") == ["nets.py"]


def test_installed_modules_and_delaylines_own_do_not_travel(tmp_path: Path) -> None:
    write(tmp_path, "jobs/__init__.py", "service/__init__.py")
    write(tmp_path, "nets.py", text="import jobs.train, service.errors\n")
    assert names(tmp_path, "nets") == ["nets.py"]
    assert collect(["yaml"], tmp_path) is None
    assert collect([], tmp_path) is None


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "data/pictures.npz", "start/mine/__init__.py")
    (tmp_path / "start" / "mine" / "data").symlink_to(tmp_path / "data")
    assert names(tmp_path / "start", "mine") == ["mine/__init__.py"]


def test_the_archive_holds_the_files_and_its_name_their_content(tmp_path: Path) -> None:
    write(tmp_path, "mine/__init__.py", text="A = 1\n")
    first, second = collect(["mine"], tmp_path), collect(["mine"], tmp_path)
    assert first
    assert second
    assert (first.name, first.archive) == (second.name, second.archive)
    with zipfile.ZipFile(io.BytesIO(first.archive)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"mine/__init__.py": b"A = 1\n"}
    write(tmp_path, "mine/__init__.py", text="A = 2\n")
    changed = collect(["mine"], tmp_path)
    assert changed
    assert changed.name != first.name


def test_too_much_is_refused_with_what_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "LARGEST_PACKAGE", 1024**2)
    write(tmp_path, "mine/__init__.py")
    (tmp_path / "mine" / "images.bin").write_bytes(bytes(3 * 1024**2))
    with pytest.raises(InvalidInput, match=r"has 3\.0 MiB and may have 1\.0 MiB: .* mine/images\.bin \(3\.0 MiB\)"):
        collect(["mine"], tmp_path)
