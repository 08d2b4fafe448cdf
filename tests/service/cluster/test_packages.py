import importlib.machinery
import io
import shutil
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


def test_a_packages_python_files_travel_without_hidden_ones_caches_and_environments(tmp_path: Path) -> None:
    write(tmp_path, "mine/__init__.py", "mine/deep/nets.py", "mine/deep/words.txt", "other/__init__.py")
    write(tmp_path, "mine/.env", "mine/.git/config.py", "mine/__pycache__/x.pyc", "mine/venv/pyvenv.cfg", "mine/venv/lib/x.py")
    write(tmp_path, "mine/credentials.json", "mine/key.pem", "mine/.hidden.py")
    assert names(tmp_path, "mine.deep.nets", "mine.callbacks") == ["mine/__init__.py", "mine/deep/nets.py"]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["mine/words.txt"], ["mine/words.txt"]),
        (["mine/*.txt", "mine/words.txt"], ["mine/words.txt"]),
        (["mine/**/*.json"], ["mine/a.json", "mine/deep/b.json"]),
        (["mine/**/*"], ["mine/a.json", "mine/deep/b.json", "mine/words.txt"]),
        (["shared/table.csv"], ["shared/table.csv"]),
    ],
)
def test_data_that_is_asked_for_travels_too(tmp_path: Path, patterns: list[str], found: list[str]) -> None:
    write(tmp_path, "mine/__init__.py", "mine/words.txt", "mine/a.json", "mine/deep/b.json", "mine/.env", "mine/.git/config")
    write(tmp_path, "shared/table.csv", "mine/__pycache__/x.pyc")
    package = collect(["mine"], tmp_path, patterns)
    assert package and list(package.files) == sorted(["mine/__init__.py", *found])


@pytest.mark.parametrize("pattern", ["mine/none.txt", "mine", "none/*", "mine/**.txt"])
def test_a_pattern_that_names_no_file_is_an_error(tmp_path: Path, pattern: str) -> None:
    write(tmp_path, "mine/__init__.py", "mine/words.csv")
    with pytest.raises(InvalidInput, match=r"package_data has '") as caught:
        collect(["mine"], tmp_path, [pattern])
    assert repr(pattern) in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    "secret",
    [
        "credentials.json",
        "Credentials.json",
        "my-credentials.json",
        "server.pem",
        "private.key",
        "id_rsa",
        ".env",
        "prod.env",
        ".aws/config",
    ],
)
def test_what_has_the_name_of_a_secret_never_travels(tmp_path: Path, secret: str) -> None:
    write(tmp_path, "mine/__init__.py", "mine/words.txt", f"mine/{secret}", text="top secret")
    assert names(tmp_path, "mine") == ["mine/__init__.py"]
    with pytest.raises(InvalidInput, match="name of a secret") as caught:
        collect(["mine"], tmp_path, [f"mine/{secret}"])
    assert secret in str(caught.value)
    if secret[0] == ".":
        package = collect(["mine"], tmp_path, ["mine/**/*"])
        assert package and list(package.files) == ["mine/__init__.py", "mine/words.txt"]
    else:
        with pytest.raises(InvalidInput, match="name of a secret"):
            collect(["mine"], tmp_path, ["mine/*"])


def test_a_module_that_is_no_python_source_is_to_be_asked_for(tmp_path: Path) -> None:
    library = f"fast{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    write(tmp_path, library, "nets.py", text="import fast\n")
    with pytest.raises(InvalidInput, match="no Python source"):
        collect(["nets"], tmp_path)
    package = collect(["nets"], tmp_path, [library])
    assert package and list(package.files) == [library, "nets.py"]


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
    write(tmp_path, "nets.py", text="import jobs.train, service.errors, random\n")
    write(tmp_path, "random.py", "numpy/data.txt")
    assert names(tmp_path, "nets") == ["nets.py"]
    assert collect(["yaml"], tmp_path) is None
    assert collect([], tmp_path) is None


@pytest.mark.parametrize(
    "link", ["mine/data", "mine/nets.py", "mine/words.txt", "mine", "nets.py", "mine/deep/up", "mine/broken"]
)
def test_a_link_that_leaves_the_folder_is_refused_with_its_target(tmp_path: Path, link: str) -> None:
    start, outside = tmp_path / "start", tmp_path / "outside"
    write(outside, "__init__.py", "file.py", text="top secret")
    write(start, "nets.py", "mine/deep/__init__.py", text="import mine\n")
    target = outside if link in ("mine", "mine/data", "mine/deep/up") else outside / ("none" if "broken" in link else "file.py")
    if link == "mine":
        shutil.rmtree(start / "mine")
    (start / link).unlink(missing_ok=True)
    (start / link).symlink_to(target)
    with pytest.raises(InvalidInput) as caught:
        collect(["nets", "mine"], start)
    assert f"{link} is a link to {target}" in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_data_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "outside/secret.txt", "start/nets.py")
    (tmp_path / "start" / "data").symlink_to(tmp_path / "outside")
    for pattern in ("data/secret.txt", "data/*"):
        with pytest.raises(InvalidInput, match="outside"):
            collect(["nets"], tmp_path / "start", [pattern])


def test_links_that_stay_in_the_folder_are_followed_but_not_round_and_round(tmp_path: Path) -> None:
    write(tmp_path, "mine/__init__.py", "shared/parts.py", ".env", "keys/id_rsa")
    (tmp_path / "mine" / "shared").symlink_to(tmp_path / "shared")
    (tmp_path / "mine" / "again").symlink_to(tmp_path / "mine")
    (tmp_path / "mine" / "parts.py").symlink_to("../shared/parts.py")
    assert names(tmp_path, "mine") == ["mine/__init__.py", "mine/parts.py", "mine/shared/parts.py"]
    for target in (".env", "keys/id_rsa"):
        (tmp_path / "mine" / "more.py").symlink_to(tmp_path / target)
        with pytest.raises(InvalidInput, match="name of a secret"):
            collect(["mine"], tmp_path)
        (tmp_path / "mine" / "more.py").unlink()


@pytest.mark.parametrize("text", ["x = " + "(" * 100_000, "x = " + "-" * 100_000 + "1", "x = [" * 5000 + "]" * 5000, "\0"])
def test_source_that_python_cannot_read_travels_as_it_is(tmp_path: Path, text: str) -> None:
    """Whoever imports it says what is wrong."""
    write(tmp_path, "nets.py", text=text)
    assert names(tmp_path, "nets") == ["nets.py"]


def test_data_in_a_python_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, "nets.py", text="x = [" + "1, " * 6_000_000 + "]")
    with pytest.raises(InvalidInput, match=r"nets\.py \(17\.2 MiB\)"):
        collect(["nets"], tmp_path)


def test_the_archive_holds_the_files_and_its_name_their_content(tmp_path: Path) -> None:
    write(tmp_path, "mine/__init__.py", text="A = 1\n")
    first, second = collect(["mine"], tmp_path), collect(["mine"], tmp_path)
    assert first
    assert second
    assert (first.sha256, first.archive) == (second.sha256, second.archive)
    with zipfile.ZipFile(io.BytesIO(first.archive)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"mine/__init__.py": b"A = 1\n"}
    write(tmp_path, "mine/__init__.py", text="A = 2\n")
    changed = collect(["mine"], tmp_path)
    assert changed
    assert changed.sha256 != first.sha256


def test_too_much_is_refused_with_what_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "LARGEST_PACKAGE", 1024**2)
    write(tmp_path, "mine/__init__.py")
    (tmp_path / "mine" / "images.bin").write_bytes(bytes(3 * 1024**2))
    with pytest.raises(InvalidInput, match=r"has 3\.0 MiB and may have 1\.0 MiB: .* mine/images\.bin \(3\.0 MiB\)"):
        collect(["mine"], tmp_path, ["mine/*.bin"])
