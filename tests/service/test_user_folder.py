from pathlib import Path

import pytest

from service.errors import InvalidInput
from service.user_folder import check_folder, folder_of_modules, module_exists


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
def test_a_module_is_looked_for_here_alone_unless_the_stored_folder_is_trusted(spec: object, folders: tuple[Path, Path]) -> None:
    here, stored = folders
    submission = {"folder": str(stored), "spec": spec}
    with pytest.raises(InvalidInput, match="--trust-folder") as caught:
        folder_of_modules("a-run", submission)
    text = str(caught.value)
    assert str(here) in text and str(stored) in text and "\n" not in text and caught.value.exit_code == 2
    assert folder_of_modules("a-run", submission, trusted=True) == str(stored)
    for name in ("nets.py", "parts/__init__.py", "parts/calls.py"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text("")
    assert folder_of_modules("a-run", submission) == str(here)


@pytest.mark.parametrize("folder", [None, "", 3, "/nowhere", ".", "a\nb"])
def test_a_folder_that_is_none_is_told_in_one_sentence(folders: tuple[Path, Path], folder: object) -> None:
    for trusted in (False, True):
        with pytest.raises(InvalidInput, match="is not found in") as caught:
            folder_of_modules("a-run", {"folder": folder, "spec": SPECS[0]}, trusted)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("reference", ["os:system", "subprocess:call", "os.path:join", "shutil:move", "builtins:exec"])
def test_a_function_of_pythons_own_makes_no_model(folders: tuple[Path, Path], reference: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidInput, match="Python's own module"):
            folder_of_modules("a-run", {"folder": "/nowhere", "spec": {"model": reference}})
        (folders[0] / f"{reference.partition(':')[0].partition('.')[0]}.py").write_text("")


def test_a_run_without_modules_needs_no_folder(folders: tuple[Path, Path]) -> None:
    here, stored = folders
    assert folder_of_modules("a-run", {"folder": "/nowhere", "spec": {"model": "cnn"}}) == str(here)
    assert module_exists("json.decoder", stored) and not module_exists("json.none", stored)


@pytest.mark.parametrize("file", ["jobs/__init__.py", "service/__init__.py", "jobs.py", "service.py"])
def test_a_folder_with_a_package_of_delaylines_names_is_told(folders: tuple[Path, Path], file: str) -> None:
    """`python -m jobs.train` would find the user's package there."""
    here, _ = folders
    for folder in (here, Path(__file__).parents[2]):
        check_folder(folder)
    (here / "jobs").mkdir()
    (here / "service").mkdir()
    check_folder(here)
    (here / file).write_text("")
    with pytest.raises(InvalidInput, match="rename it"):
        check_folder(here)
