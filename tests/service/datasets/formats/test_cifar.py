"""CIFAR's python batches: what is read, and pickles that would do more than hold data."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.datasets import unpacked
from service.datasets.formats.cifar import read
from service.errors import BadData

Refused = Callable[..., str]


def silent(_: int) -> None:
    return


def packed(folder: Path, mode: str = "gz", prefix: str = "cifar-10-batches-py/", skip: str = "") -> Path:
    """The folder as a tar file."""
    path = folder.parent / f"archive.tar.{mode}"
    with tarfile.open(path, f"w:{mode}") as archive:
        for file in sorted(folder.iterdir()):
            if file.name != skip:
                archive.add(file, f"{prefix}{file.name}")
    return path


def add(archive: tarfile.TarFile, name: str, data: bytes, **changes: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in changes.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data))


def test_a_folder_is_read_in_the_order_of_its_batches(cifar_folder: Path) -> None:
    raw = read(cifar_folder, silent)
    features, classes = raw.check()
    assert features[0].shape == (32, 32, 3) and classes == tuple(f"class-{number}" for number in range(10))
    train = raw.splits["train"].columns["image"]
    assert train.shape == (35, 32, 32, 3) and train[:, 0, 0, 0].tolist() == list(range(35))
    assert raw.splits["train"].labels.tolist() == [number % 10 for number in range(35)]
    assert len(raw.splits["test"].labels) == 5


def test_planes_become_channels(cifar_folder: Path) -> None:
    pixels = np.zeros((5, 3072), np.uint8)
    pixels[:, :1024], pixels[:, 1024:2048], pixels[:, 2048] = 1, 2, 3
    (cifar_folder / "test_batch").write_bytes(pickle.dumps({b"data": pixels, b"labels": [0] * 5}, protocol=2))
    test = read(cifar_folder, silent).splits["test"].columns["image"]
    assert test[0, 0, 0].tolist() == [1, 2, 3] and test[0, 31, 31].tolist() == [1, 2, 0]


@pytest.mark.parametrize("mode", ["gz", "xz", ""])
def test_a_tar_file_is_read_as_the_folder(cifar_folder: Path, mode: str) -> None:
    folder, archive = read(cifar_folder, silent), read(packed(cifar_folder, mode), silent)
    assert folder.classes == archive.classes
    np.testing.assert_array_equal(folder.splits["train"].columns["image"], archive.splits["train"].columns["image"])


def test_a_folder_around_the_folder_is_read(cifar_folder: Path) -> None:
    assert len(read(cifar_folder.parent, silent).splits["train"].labels) == 35


def test_without_meta_the_classes_are_those_of_the_authors(cifar_folder: Path) -> None:
    (cifar_folder / "batches.meta").unlink()
    classes = read(cifar_folder, silent).classes
    assert classes is not None and classes[3] == "cat"


def test_cifar_100_is_read_with_its_fine_labels(tmp_path: Path, make_batch: Callable[..., bytes]) -> None:
    (tmp_path / "train").write_bytes(make_batch(120, 0, "fine_labels", 100))
    (tmp_path / "test").write_bytes(make_batch(4, 0, "fine_labels", 100))
    names = [f"fine-{number}".encode() for number in range(100)]
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": names, b"coarse_label_names": [b"x"]}, protocol=2))
    raw = read(tmp_path, silent)
    assert raw.check()[1][99] == "fine-99" and raw.splits["train"].labels.max() == 99


def test_python_3_pickles_of_the_same_are_read(cifar_folder: Path) -> None:
    for path in cifar_folder.iterdir():
        path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes(), encoding="bytes"), protocol=4))
    assert len(read(cifar_folder, silent).splits["train"].labels) == 35


class Calls:
    """Pickled, this is a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("where", ["test_batch", "batches.meta"])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_calls_a_function_is_refused_before_it_is_called(
    cifar_folder: Path, refused: Refused, where: str, protocol: int, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    for call in (Calls(os.system, f"touch {marker}"), Calls(eval, f"open({str(marker)!r}, 'w')"), Calls(os.mkdir, str(marker))):
        (cifar_folder / where).write_bytes(pickle.dumps({b"data": call, b"labels": []}, protocol))
        refused(cifar_folder, "cifar", 3, where, "do not trust this file")
        refused(packed(cifar_folder), "cifar", 3, where, "do not trust this file")
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"cbuiltins\nexec\n(S'1'\ntR.",
        b"cnumpy\nndarray.tofile\n.",
        b"c_codecs\ndecode\n.",
    ],
)
def test_other_names_of_numpy_are_refused_too(cifar_folder: Path, refused: Refused, text: bytes) -> None:
    (cifar_folder / "test_batch").write_bytes(text)
    refused(cifar_folder, "cifar", 3, "test_batch")


def test_arrays_of_python_objects_are_refused(cifar_folder: Path, refused: Refused) -> None:
    data = np.empty((5, 3072), object)
    (cifar_folder / "test_batch").write_bytes(pickle.dumps({b"data": data, b"labels": [0] * 5}, 2))
    refused(cifar_folder, "cifar", 3, "test_batch")


@pytest.mark.parametrize("kept", [0, 1, 40, 5000, -1])
def test_a_truncated_pickle_is_named_with_the_offset(cifar_folder: Path, refused: Refused, kept: int) -> None:
    path = cifar_folder / "data_batch_3"
    path.write_bytes(path.read_bytes()[:kept])
    refused(cifar_folder, "cifar", 3, "data_batch_3", "offset", "fetch the file again")


@given(st.binary(max_size=60))
def test_noise_is_refused_in_our_words(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "noise"
    folder.mkdir(exist_ok=True)
    for name in ("train", "test"):
        (folder / name).write_bytes(b"\x80\x02" + data)
    with pytest.raises(BadData, match="train"):
        read(folder, silent)


@pytest.mark.parametrize("value", [[1], b"x", None, {b"labels": [0]}, {b"data": [[0]], b"labels": [0]}])
def test_another_content_is_refused(cifar_folder: Path, refused: Refused, value: Any) -> None:
    (cifar_folder / "test_batch").write_bytes(pickle.dumps(value, 2))
    refused(cifar_folder, "cifar", 3, "test_batch")


@pytest.mark.parametrize("labels", [[0] * 4, ["0"] * 5, None, [0.5] * 5, [True] * 5, [2**70] * 5])
def test_labels_that_are_none_are_refused(cifar_folder: Path, refused: Refused, labels: Any) -> None:
    (cifar_folder / "test_batch").write_bytes(pickle.dumps({b"data": np.zeros((5, 3072), np.uint8), b"labels": labels}, 2))
    refused(cifar_folder, "cifar", 3, "test_batch")


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_out_of_range_are_refused(cifar_folder: Path, refused: Refused, label: int) -> None:
    (cifar_folder / "test_batch").write_bytes(pickle.dumps({b"data": np.zeros((5, 3072), np.uint8), b"labels": [label] * 5}, 2))
    refused(cifar_folder, "cifar", 3, "label", str(label))


@pytest.mark.parametrize("shape", [(5, 3071), (5, 32, 32, 3), (3072,)])
def test_pictures_of_another_shape_are_refused(cifar_folder: Path, refused: Refused, shape: tuple[int, ...]) -> None:
    (cifar_folder / "test_batch").write_bytes(pickle.dumps({b"data": np.zeros(shape, np.uint8), b"labels": [0] * 5}, 2))
    refused(cifar_folder, "cifar", 3, "test_batch", "(images, 3072)")


def test_more_images_than_the_file_has_bytes_are_refused(cifar_folder: Path, refused: Refused) -> None:
    repeated = Calls(np.ndarray, (100_000, 3072), np.dtype(np.uint8), bytes(3072), 0, (0, 1))
    (cifar_folder / "test_batch").write_bytes(pickle.dumps({b"data": repeated, b"labels": [0] * 100_000}, 4))
    refused(cifar_folder, "cifar", 3, "test_batch", "do not fit")


@pytest.mark.parametrize("meta", [{}, {b"label_names": 3}, {b"label_names": [1, 2]}])
def test_a_meta_file_without_names_is_refused(cifar_folder: Path, refused: Refused, meta: Any) -> None:
    (cifar_folder / "batches.meta").write_bytes(pickle.dumps(meta, 2))
    refused(cifar_folder, "cifar", 3, "batches.meta", "label names")


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch"])
def test_a_missing_batch_is_named(cifar_folder: Path, refused: Refused, name: str) -> None:
    refused(packed(cifar_folder, skip=name), "cifar", 2, name)
    (cifar_folder / name).unlink()
    refused(cifar_folder, "cifar", 2, name)


def test_an_empty_folder_and_a_missing_one_are_refused(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "cifar", 2, "empty")
    refused(tmp_path / "none", "cifar", 2, "none")


def test_members_that_lead_out_of_the_tar_file_lead_nowhere(cifar_folder: Path, tmp_path: Path) -> None:
    archive = packed(cifar_folder, "", "../../out-of-the-tar/")
    with tarfile.open(archive, "a") as file:
        add(file, "../../../evil", b"evil")
        add(file, str(tmp_path / "absolute"), b"evil")
        add(file, "cifar/link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    # The folders above are other tests' too: of them only what this archive would put there counts.
    before = set(tmp_path.rglob("*"))
    assert len(read(archive, silent).splits["train"].labels) == 35
    assert set(tmp_path.rglob("*")) == before
    for folder in (*tmp_path.parents, Path.cwd(), *Path.cwd().parents):
        assert not (folder / "evil").exists()
        assert not (folder / "out-of-the-tar").exists()


def test_links_and_devices_named_as_batches_are_no_batches(cifar_folder: Path, refused: Refused) -> None:
    archive = packed(cifar_folder, "", skip="test_batch")
    with tarfile.open(archive, "a") as file:
        add(file, "test_batch", b"", type=tarfile.SYMTYPE, linkname="data_batch_1")
        add(file, "x/test_batch", b"", type=tarfile.FIFOTYPE)
    refused(archive, "cifar", 2, "test_batch")


def test_a_member_that_claims_too_much_is_refused(cifar_folder: Path, refused: Refused) -> None:
    archive = packed(cifar_folder, "")
    member = tarfile.TarInfo("cifar/data_batch_1")
    member.size = 2**40
    archive.write_bytes(member.tobuf() + archive.read_bytes())
    refused(archive, "cifar", 3, "data_batch_1", str(2**40))


@pytest.mark.parametrize("kept", [10, 200, 700])
def test_a_truncated_tar_file_is_named(cifar_folder: Path, refused: Refused, kept: int) -> None:
    archive = packed(cifar_folder)
    archive.write_bytes(archive.read_bytes()[:kept])
    refused(archive, "cifar", 3, "archive.tar.gz", "fetch it again")


@pytest.mark.parametrize("data", [b"", b"no tar file", b"\x1f\x8bno gzip file"])
def test_what_is_no_tar_file_is_named(tmp_path: Path, refused: Refused, data: bytes) -> None:
    (tmp_path / "archive.tar.gz").write_bytes(data)
    refused(tmp_path / "archive.tar.gz", "cifar", 3, "archive.tar.gz")


def test_a_pickle_whose_work_doubles_with_each_level_is_refused(cifar_folder: Path, refused: Refused) -> None:
    levels = b"".join(bytes((0x68, level, 0x68, level, 0x86, 0x71, level + 1)) for level in range(200))
    (cifar_folder / "test_batch").write_bytes(b"\x80\x02K\x01q\x00" + levels + b"}h\xc8K\x00s.")
    refused(cifar_folder, "cifar", 3, "test_batch", "key", "do not trust this file")
    refused(packed(cifar_folder), "cifar", 3, "test_batch", "key", "do not trust this file")


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_tar_file_that_unpacks_to_far_more_than_its_size_is_refused(
    cifar_folder: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(unpacked, "FLOOR", 1024**2)
    path = cifar_folder.parent / f"bomb.tar.{mode}"
    with tarfile.open(path, f"w:{mode}") as archive:
        add(archive, "other", bytes(2**25))
    assert path.stat().st_size < 2**16
    refused(path, "cifar", 3, path.name, "it unpacks to")


def test_a_member_full_of_holes_is_no_batch(cifar_folder: Path, refused: Refused) -> None:
    archive = packed(cifar_folder, "", skip="test_batch")
    with tarfile.open(archive, "a", format=tarfile.PAX_FORMAT) as file:
        add(file, "test_batch", b"", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**28)})
    refused(archive, "cifar", 2, "test_batch")


def test_a_tar_file_of_endless_members_is_refused(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "many.tar").write_bytes(tarfile.TarInfo("x").tobuf() * 10_001)
    refused(tmp_path / "many.tar", "cifar", 3, "many.tar", "10000 members")


def test_a_tar_file_of_endless_headers_is_refused(tmp_path: Path, refused: Refused) -> None:
    """Each of which is the long name of the next one."""
    member = tarfile.TarInfo("name")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1
    (tmp_path / "c.tar").write_bytes((member.tobuf() + b"a" + bytes(511)) * 3000)
    refused(tmp_path / "c.tar", "cifar", 3, "c.tar", "do not trust")
