"""Folders of pictures: PNG and JPEG, grey and colour, and files that are no pictures."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.datasets.formats.images import read

Refused = Callable[..., str]


def silent(_: int) -> None:
    return


def paint(path: Path, mode: str = "L", size: tuple[int, int] = (6, 4), value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = {"L": value, "RGB": (value, 0, 0), "RGBA": (value, 0, 0, 128), "P": 1, "1": 1, "LA": (value, 255)}
    Image.new(mode, size, colours.get(mode, value)).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of three and of two pictures for training, of one to test."""
    folder = tmp_path / "pictures"
    for number, name in enumerate(("cat", "dog")):
        for index in range(3 - number):
            paint(folder / "train" / name / f"{index}.png", value=10 * number + index)
        paint(folder / "test" / name / "0.png", value=200 + number)
    return folder


def test_classes_are_the_folders_and_pictures_are_in_order(pictures: Path) -> None:
    moved: list[int] = []
    raw = read(pictures, moved.append)
    features, classes = raw.check()
    assert classes == ("cat", "dog") and features[0].shape == (4, 6, 1) and len(moved) == 7
    assert raw.splits["train"].columns["image"][:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11]
    assert raw.splits["train"].labels.tolist() == [0, 0, 0, 1, 1] and raw.splits["test"].labels.tolist() == [0, 1]


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "PNG", "JPG"])
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_png_and_jpeg_are_read_in_grey_and_colour(tmp_path: Path, suffix: str, mode: str, channels: int) -> None:
    for split in ("train", "test"):
        paint(tmp_path / split / "a" / f"1.{suffix}", mode)
    image = read(tmp_path, silent).splits["train"].columns["image"]
    assert image.shape == (1, 4, 6, channels) and image.dtype == np.uint8 and abs(int(image[0, 0, 0, 0]) - 100) <= 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_one_colour_picture_makes_all_of_them_colour(pictures: Path, mode: str) -> None:
    paint(pictures / "test" / "dog" / "1.png", mode)
    raw = read(pictures, silent)
    assert raw.check()[0][0].shape == (4, 6, 3)
    assert raw.splits["train"].columns["image"][1, 0, 0].tolist() == [1, 1, 1]


def test_grey_with_transparency_is_grey(pictures: Path) -> None:
    paint(pictures / "test" / "dog" / "1.png", "LA")
    assert read(pictures, silent).check()[0][0].shape == (4, 6, 1)


def test_sixteen_bit_pictures_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        values = np.full((4, 6), 256 * 100, np.uint16)
        Image.fromarray(values).save(tmp_path / split / "a" / "1.png")
    assert int(read(tmp_path, silent).splits["train"].columns["image"][0, 0, 0, 0]) == 100


def test_other_files_and_hidden_folders_are_left_alone(pictures: Path) -> None:
    (pictures / "train" / "readme.txt").write_text("hello")
    (pictures / "train" / "cat" / "notes.txt").write_text("hello")
    (pictures / "train" / ".cache").mkdir()
    assert read(pictures, silent).check()[1] == ("cat", "dog")


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50), b"\xff\xd8\xff\xe0"])
def test_a_png_that_is_none_is_named(pictures: Path, refused: Refused, data: bytes) -> None:
    (pictures / "train" / "dog" / "1.png").write_bytes(data)
    refused(pictures, "images", 3, "train/dog/1.png", "replace or remove")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_picture_is_named(pictures: Path, refused: Refused, suffix: str) -> None:
    path = pictures / "train" / "dog" / f"9.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 6), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: -len(path.read_bytes()) // 4 if suffix == "png" else -20])
    refused(pictures, "images", 3, f"train/dog/9.{suffix}", "offset")


def test_a_flipped_byte_in_a_png_is_noticed(pictures: Path, refused: Refused) -> None:
    path = pictures / "train" / "dog" / "1.png"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(data)
    refused(pictures, "images", 3, "train/dog/1.png")


@pytest.mark.parametrize("side", [9000, 100_000])
def test_a_picture_that_claims_to_be_huge_is_refused(
    pictures: Path, refused: Refused, flat_png: Callable[..., bytes], side: int
) -> None:
    (pictures / "train" / "dog" / "1.png").write_bytes(flat_png(side, side, rows=1))
    refused(pictures, "images", 3, "train/dog/1.png", f"{side * side} pixels", "more than 67108864")


def test_small_files_of_many_pixels_together_are_refused(
    tmp_path: Path, refused: Refused, flat_png: Callable[..., bytes]
) -> None:
    for split, count in (("train", 3), ("test", 1)):
        (tmp_path / "in" / split / "a").mkdir(parents=True)
        for number in range(count):
            (tmp_path / "in" / split / "a" / f"{number}.png").write_bytes(flat_png(8000, 8000))
    refused(tmp_path / "in", "images", 3, "3 pictures of 8000x8000 pixels", "192000000 bytes")


def test_a_jpeg_of_endless_scans_is_refused(pictures: Path, refused: Refused) -> None:
    path = pictures / "train" / "dog" / "1.jpg"
    Image.new("L", (6, 4)).save(path, progressive=True)
    data = path.read_bytes()
    last = data.rindex(b"\xff\xda")
    path.write_bytes(data[:-2] + data[last:-2] * 200 + data[-2:])
    refused(pictures, "images", 3, "train/dog/1.jpg", "scans")


def test_pictures_of_unequal_sizes_are_named(pictures: Path, refused: Refused) -> None:
    paint(pictures / "test" / "dog" / "5.png", size=(6, 5))
    refused(pictures, "images", 3, "test/dog/5.png", "6x5", "6x4", "one size")


def test_a_class_that_train_has_not_is_named(pictures: Path, refused: Refused) -> None:
    paint(pictures / "test" / "emu" / "0.png")
    refused(pictures, "images", 3, "test/emu", "cat, dog")


def test_a_class_without_pictures_is_named(pictures: Path, refused: Refused) -> None:
    (pictures / "train" / "emu").mkdir()
    refused(pictures, "images", 3, "train/emu", "no PNG or JPEG")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_pictures_is_refused(tmp_path: Path, refused: Refused, split: str) -> None:
    folder = tmp_path / "pictures"
    for name in ("train", "test"):
        (folder / name / "a").mkdir(parents=True)
        if name != split:
            paint(folder / name / "a" / "0.png")
    refused(folder, "images", 3, split, "no PNG or JPEG")


def test_an_empty_train_folder_is_refused(tmp_path: Path, refused: Refused) -> None:
    for split in ("train", "test"):
        (tmp_path / "pictures" / split).mkdir(parents=True)
    refused(tmp_path / "pictures", "images", 3, "no folders")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_asked_for(pictures: Path, refused: Refused, split: str) -> None:
    (pictures / split).rename(pictures / "elsewhere")
    refused(pictures, "images", 2, "train and test", "train/CLASS/*.png")


def test_a_file_and_a_missing_folder_are_refused(pictures: Path, refused: Refused) -> None:
    refused(pictures / "train" / "cat" / "0.png", "images", 2, "train and test")
    refused(pictures / "none", "images", 2, "none", "--from")


def test_a_pipe_is_no_picture(pictures: Path, refused: Refused) -> None:
    os.mkfifo(pictures / "train" / "dog" / "9.png")
    refused(pictures, "images", 3, "train/dog/9.png", "is no file")
