"""`delayline data`: import, list, show and verify, as a user calls them."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.storage.base import Store

Delayline = Callable[..., Any]


@pytest.fixture
def small(tmp_path: Path) -> str:
    """Twelve examples to train and five to test."""
    arrays = {f"x_{split}": np.ones((rows, 6), np.float32) for split, rows in (("train", 12), ("test", 5))}
    np.savez(tmp_path / "small.npz", **arrays, y_train=np.arange(12) % 3, y_test=np.arange(5) % 3)
    return str(tmp_path / "small.npz")


@pytest.fixture
def imported(delayline: Delayline, small: str) -> Any:
    """The manifest of the dataset `small`."""
    return delayline("data", "import", "small", "--from", small, "--format", "npz", "--json").document


def told(done: Any, code: int, *words: str) -> None:
    """The command ended with this code and one sentence that holds these words."""
    assert done.code == code, done.err
    assert "Traceback" not in done.err + done.out and done.out == ""
    errors = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and done.err.strip().endswith(errors[0]), done.err
    for word in words:
        assert word in errors[0], errors[0]


def test_an_import_says_what_came_in(delayline: Delayline, small: str) -> None:
    done = delayline("data", "import", "small", "--from", small, "--format", "npz")
    assert done.code == 0 and done.out == ""
    assert "12 train, 5 test examples, 3 classes" in done.err


def test_an_import_prints_its_manifest(imported: Any, local_store: Store) -> None:
    assert imported["name"] == "small" and imported["splits"] == {"train": 12, "test": 5}
    assert imported["features"] == [{"name": "x", "dtype": "float32", "shape": [6], "scale": 1.0}]
    assert [shard["rows"] for shard in imported["shards"]] == [12, 5]
    assert all(local_store.exists(shard["key"]) for shard in imported["shards"])


def test_an_import_again_is_without_harm(delayline: Delayline, imported: Any, small: str, local_store: Store) -> None:
    before = [(info.key, info.modified) for info in local_store.objects("")]
    again = delayline("data", "import", "small", "--from", small, "--format", "npz", "--json")
    assert again.code == 0 and again.document == imported
    assert [(info.key, info.modified) for info in local_store.objects("")] == before


def test_a_relative_folder_is_one_of_this_folder(delayline: Delayline, small: str, tmp_path: Path) -> None:
    done = delayline("data", "import", "small", "--from", f"../{Path(small).name}", "--format", "npz")
    assert done.code == 0 and tmp_path.exists()


def test_datasets_are_listed(delayline: Delayline, imported: Any) -> None:
    listed = delayline("data", "list", "--json").document
    assert [entry["name"] for entry in listed] == ["bits", "digits", "small"] and "shards" not in listed[2]
    assert listed[2] == {key: value for key, value in imported.items() if key != "shards"}
    lines = delayline("data", "list").out.splitlines()
    assert lines[0].split() == ["name", "version", "examples", "of", "classes", "size", "imported"]
    assert lines[2].startswith("digits") and imported["version"] in lines[3] and "12 + 5" in lines[3]


def test_an_empty_store_lists_what_ships_with_delayline(delayline: Delayline, local_store: Store) -> None:
    done = delayline("data", "list", "--json")
    assert (
        done.code == 0 and [entry["name"] for entry in done.document] == ["bits", "digits"] and not Path(local_store.url).exists()
    )


def test_a_dataset_is_shown(delayline: Delayline, imported: Any) -> None:
    assert delayline("data", "show", "small", "--json").document == imported
    assert delayline("data", "show", f"small@{imported['version']}", "--json").document == imported
    text = delayline("data", "show", "small").out
    assert "train: 12 examples in 1 shards" in text and "x: float32 6" in text and "classes: 0, 1, 2" in text


def test_the_embedded_dataset_is_shown_and_verified(delayline: Delayline) -> None:
    assert delayline("data", "show", "digits", "--json").document["embedded"] is True
    assert delayline("data", "verify", "digits").code == 0


def test_a_good_dataset_is_verified(delayline: Delayline, imported: Any) -> None:
    done = delayline("data", "verify", "small", "--json")
    assert done.code == 0
    assert done.document == {"name": "small", "version": imported["version"], "shards": 2, "problems": []}
    assert "every byte" in delayline("data", "verify", "small").err


def test_a_flipped_byte_is_found(delayline: Delayline, imported: Any, local_store: Store) -> None:
    key = imported["shards"][0]["key"]
    data = bytearray(local_store.read(key))
    data[50] ^= 1
    local_store.write(key, bytes(data))
    told(delayline("data", "verify", "small"), 5, key, "checksum", "import the dataset again")
    done = delayline("data", "verify", "small", "--json")
    assert done.code == 5 and len(done.document["problems"]) == 1 and key in done.document["problems"][0]
    local_store.delete(imported["shards"][1]["key"])
    told(delayline("data", "verify", "small"), 5, "1 more shard")


def test_the_remedy_for_a_flipped_byte_works(delayline: Delayline, imported: Any, small: str, local_store: Store) -> None:
    local_store.write(imported["shards"][0]["key"], bytes(imported["shards"][0]["bytes"]))
    assert delayline("data", "verify", "small").code == 5
    assert delayline("data", "import", "small", "--from", small, "--format", "npz").code == 0
    assert delayline("data", "verify", "small").code == 0


@pytest.mark.parametrize("command", ["show", "verify"])
def test_unknown_names_are_errors_with_those_that_are_there(delayline: Delayline, imported: Any, command: str) -> None:
    told(delayline("data", command, "smal"), 2, "'smal'", "bits, digits, small", "delayline data import")
    told(delayline("data", command, "small@0000"), 2, "'0000'", imported["version"])
    told(delayline("data", command, "../small"), 2, "'../small'", "lower-case")
    told(delayline("data", command, "small@"), 2, "version")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mine", "--from", "SMALL"), ("'mine'", "--format")),
        (("mine", "--from", "none", "--format", "npz"), ("none", "--from")),
        (("mine", "--from", "SMALL", "--format", "xlsx"), ("'xlsx'", "npz")),
        (("Mine", "--from", "SMALL", "--format", "npz"), ("'Mine'", "lower-case")),
        (("digits", "--from", "SMALL", "--format", "npz"), ("'digits'", "another name")),
        (("mine", "--format", "npz"), ("'mine'", "--from")),
        (("mine", "--from", "gopher://host/x", "--format", "npz"), ("gopher", "http://")),
    ],
)
def test_what_is_asked_wrongly_is_an_error(
    delayline: Delayline, small: str, local_store: Store, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    given = [small if argument == "SMALL" else argument for argument in arguments]
    told(delayline("data", "import", *given), 2, *words)
    assert list(local_store.objects("")) == []


def test_bad_files_are_the_users_matter(delayline: Delayline, tmp_path: Path, local_store: Store) -> None:
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    told(delayline("data", "import", "mine", "--from", str(tmp_path / "bad.npz"), "--format", "npz"), 3, "bad.npz")
    assert list(local_store.objects("")) == []


def test_a_pickle_that_runs_commands_runs_none(delayline: Delayline, tmp_path: Path, local_store: Store) -> None:
    class Call:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'marker'}",)

    folder = tmp_path / "cifar"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(Call()))
    told(delayline("data", "import", "cifar10", "--from", str(folder)), 3, "data_batch_1", "do not trust this file")
    assert not (tmp_path / "marker").exists() and list(local_store.objects("")) == []


@pytest.mark.parametrize("command", [("list",), ("show", "small"), ("verify", "small")])
def test_a_store_that_refuses_is_an_error(delayline: Delayline, tmp_path: Path, command: tuple[str, ...]) -> None:
    told(delayline("data", *command, "--store", "s3://bucket?endpoint_override=localhost:9000"), 2, "localhost:9000", "http://")
    told(delayline("data", *command, "--store", "s3://key:topsecret@bucket"), 2, "AWS_SECRET_ACCESS_KEY")


def test_a_store_that_is_a_file_is_an_error(delayline: Delayline, tmp_path: Path, small: str) -> None:
    told(delayline("data", "import", "mine", "--from", small, "--format", "npz", "--store", small), 5, small, "another folder")


def test_a_missing_bucket_is_an_error(delayline: Delayline, seaweedfs: Any, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DELAYLINE_STORE", "s3://no-such-bucket")
    told(delayline("data", "list"), 5, "'no-such-bucket'", "create it")
    told(delayline("data", "import", "mine", "--from", small, "--format", "npz"), 5, "'no-such-bucket'", "create it")


def test_a_bucket_holds_datasets_as_a_folder_does(
    delayline: Delayline, seaweedfs: Any, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DELAYLINE_STORE", f"s3://{seaweedfs.bucket()}/team")
    made = delayline("data", "import", "small", "--from", small, "--format", "npz", "--json").document
    assert delayline("data", "show", "small", "--json").document == made
    assert delayline("data", "verify", "small").code == 0
    assert [entry["name"] for entry in delayline("data", "list", "--json").document] == ["bits", "digits", "small"]


def test_a_damaged_manifest_is_an_error(delayline: Delayline, imported: Any, local_store: Store) -> None:
    local_store.write(f"datasets/small/{imported['version']}/manifest.json", b'{"format": 1}')
    for command in (("list",), ("show", "small"), ("verify", "small")):
        told(delayline("data", *command), 5, f"datasets/small/{imported['version']}/manifest.json", "import the dataset again")


def test_the_command_of_a_terminal_ends_by_the_same_code(tmp_path: Path, small: str) -> None:
    argv = [sys.executable, "-m", "service.cli.main", "data", "import", "mine", "--from", small]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "DELAYLINE_STORE": str(tmp_path / "store")}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr and "--format" in done.stderr
    done = subprocess.run([*argv, "--format", "npz", "--json"], cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0 and b'"name": "mine"' in done.stdout


def test_what_each_number_is_and_what_was_left_out_is_shown(delayline: Delayline, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for split in ("train", "test"):
        (tmp_path / "rows" / f"{split}.csv").write_text(",b,city,a,kind\n0,1,Ulm,2,x\n1,3,Bonn,4,y\n")
    chosen = ("--label", "kind", "--one-hot", "city")
    done = delayline("data", "import", "rows", "--from", str(tmp_path / "rows"), "--format", "csv", *chosen)
    assert done.code == 0 and "Left out as the index" in done.err and "city is one-hot" in done.err
    shown = delayline("data", "show", "rows").out
    assert "in this order: b, city=Bonn, city=Ulm, a" in shown and "Left out as the index" in shown
    told(delayline("data", "import", "rows", "--from", str(tmp_path), "--format", "images", *chosen), 2, "--label means nothing")
