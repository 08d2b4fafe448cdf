import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.errors import InvalidInput
from service.user_folder import folder_of_modules, module_exists, own_names, put_last, python


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The current folder, and one that a store names and that has the modules `nets` and `parts.calls`."""
    here, stored = tmp_path / "here", tmp_path / "stored"
    here.mkdir()
    (stored / "parts").mkdir(parents=True)
    for name in ("nets.py", "parts/__init__.py", "parts/calls.py"):
        (stored / name).write_text("raise RuntimeError('imported')")
    monkeypatch.chdir(here)
    return here, stored


SPECS = [
    {"model": "nets:build"},
    {"model": "cnn", "callbacks": [{"name": "parts.calls:make"}]},
    {"base": {"model": "cnn"}, "space": {"model": {"grid": ["cnn", "nets:build"]}}},
]


@pytest.mark.parametrize("spec", SPECS)
def test_a_module_is_looked_for_here_alone_unless_the_stored_folder_is_trusted(
    spec: dict[str, Any], folders: tuple[Path, Path]
) -> None:
    here, stored = folders
    with pytest.raises(InvalidInput, match="--trust-folder") as caught:
        folder_of_modules("a-run", spec, str(stored))
    text = str(caught.value)
    assert str(here) in text and str(stored) in text and "\n" not in text and caught.value.exit_code == 2
    assert folder_of_modules("a-run", spec, str(stored), trusted=True) == str(stored)
    for name in ("nets.py", "parts/__init__.py", "parts/calls.py"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text("")
    assert folder_of_modules("a-run", spec, str(stored)) == str(here)


@pytest.mark.parametrize("folder", [None, "", "/nowhere", ".", "a\nb"])
def test_a_folder_that_is_none_is_an_error_in_one_sentence(folders: tuple[Path, Path], folder: str | None) -> None:
    for trusted in (False, True):
        with pytest.raises(InvalidInput, match="is not found in") as caught:
            folder_of_modules("a-run", SPECS[0], folder, trusted)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("reference", ["os:system", "subprocess:call", "os.path:join", "shutil:move", "builtins:exec"])
def test_a_function_of_pythons_own_makes_no_model(folders: tuple[Path, Path], reference: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidInput, match="Python's own module"):
            folder_of_modules("a-run", {"model": reference}, "/nowhere")
        (folders[0] / f"{reference.partition(':')[0].partition('.')[0]}.py").write_text("")


def test_a_run_without_modules_needs_no_folder(folders: tuple[Path, Path]) -> None:
    here, stored = folders
    assert folder_of_modules("a-run", {"model": "cnn"}, "/nowhere") == str(here)
    assert module_exists("json.decoder", stored) and not module_exists("json.none", stored)


STANDARD = (
    "random", "types", "json", "logging", "abc", "enum", "re", "io", "os", "socket", "queue", "signal", "copy", "string", "token",
    "inspect", "asyncio", "pickle", "platform", "time",
)  # fmt: skip
"""Twenty of Python's own modules."""


def test_what_else_lies_in_a_folder_is_nobodys_but_the_users(tmp_path: Path) -> None:
    for name in (*STANDARD, "service", "keras"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "nets.py").write_text("import json, random\nimport parts.deep\nfrom . import queue\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "deep.py").write_text("import more, os\n")
    (tmp_path / "more.py").write_text("import nets\n")
    assert own_names(["nets"], tmp_path) == {"nets": False, "parts": False, "more": False}
    done = subprocess.run(
        [*python("service.cli.main"), "recipes"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["jobs", "service", "numpy", "keras", "tensorflow", "ray", "yaml", "random", "types"])
def test_a_users_module_with_the_name_of_one_that_is_needed_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "nets.py").write_text(f"from {name} import helper\n")
    asked = [["nets.deep", name]] if name in sys.stdlib_module_names else [["nets"], [f"{name}.nets"]]
    for modules in asked:
        with pytest.raises(InvalidInput, match="rename") as caught:
            own_names(modules, tmp_path)
        assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_code_takes_no_name(tmp_path: Path) -> None:
    """A folder `keras` with models in it is no module where Keras is installed."""
    (tmp_path / "keras").mkdir()
    (tmp_path / "nets.py").write_text("import keras\n")
    assert own_names(["nets"], tmp_path) == {"nets": False}


def test_where_a_process_stands_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/a", str(tmp_path), "/b"])
    put_last()
    assert sys.path == ["/a", "/b", str(tmp_path)]
