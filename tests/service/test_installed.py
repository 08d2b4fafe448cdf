"""What is installed, in environments that hold nothing else: a distribution is a folder with its metadata."""

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from jobs.training.analysis.hardware import versions
from service.doctor.machine import machine_checks
from service.errors import InvalidInput
from service.installed import distribution
from service.user_folder import own_names

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts distributions into an environment that is otherwise empty."""

    def put(name: str, version: str, *requires: str, modules: str = "") -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Requires-Python: >=3.11"]
        (folder / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {each}" for each in requires), ""]))
        (folder / "top_level.txt").write_text(modules)

    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return put


def test_the_build_for_cpus_stands_in_for_tensorflow(install: Install) -> None:
    install("tensorflow-cpu", "2.21.0")
    assert distribution("tensorflow").name == "tensorflow-cpu"
    assert versions()["tensorflow"] == "2.21.0"


def test_where_both_are_the_required_one_counts(install: Install) -> None:
    install("tensorflow-cpu", "2.20.0")
    install("tensorflow", "2.21.0")
    assert distribution("tensorflow").version == "2.21.0"


def test_what_is_not_installed_is_not_found(install: Install) -> None:
    install("tensorflow-cpu", "2.21.0")
    with pytest.raises(metadata.PackageNotFoundError, match="keras"):
        distribution("keras")


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("2.21.0", ("ok", "tensorflow-cpu 2.21.0")),
        ("2.20.0", ("failed", "tensorflow-cpu is 2.20.0, not ==2.21.0: run `uv sync`, or `pip install delayline` anew.")),
    ],
)
def test_doctor_looks_at_the_version_of_the_build_for_cpus(version: str, found: tuple[str, str], install: Install) -> None:
    install("delayline", "0.1.0", "tensorflow==2.21.0")
    install("tensorflow-cpu", version)
    finding = dict(machine_checks())["packages"]()
    assert (finding.status, finding.text) == found


def test_a_users_module_with_the_name_of_tensorflow_is_refused_beside_the_build_for_cpus(
    install: Install, tmp_path: Path
) -> None:
    install("delayline", "0.1.0", "tensorflow==2.21.0")
    install("tensorflow-cpu", "2.21.0", modules="tensorflow")
    (tmp_path / "tensorflow.py").touch()
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "tensorflow.py").touch()
    (folder / "nets.py").write_text("import tensorflow\n")
    with pytest.raises(InvalidInput, match="'tensorflow'"):
        own_names(["nets"], folder)
