"""Folders of pictures: their splits, classes and kinds, grey and colour, and files that are no pictures."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.datasets.choices import Choices
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
    refused(pictures, "images", 3, "train/emu", "no PNG, JPEG")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_pictures_is_refused(tmp_path: Path, refused: Refused, split: str) -> None:
    folder = tmp_path / "pictures"
    for name in ("train", "test"):
        (folder / name / "a").mkdir(parents=True)
        if name != split:
            paint(folder / name / "a" / "0.png")
    refused(folder, "images", 3, split, "no PNG, JPEG")


def test_an_empty_train_folder_is_refused(tmp_path: Path, refused: Refused) -> None:
    for split in ("train", "test"):
        (tmp_path / "pictures" / split).mkdir(parents=True)
    refused(tmp_path / "pictures", "images", 3, "no folders of classes")


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


def test_pictures_of_all_kinds_and_in_folders_within_are_read(tmp_path: Path) -> None:
    kinds = ["png", "webp", "jfif", "JPE", "bmp", "tiff", "TIF", "gif"]
    for kind in kinds:
        paint(tmp_path / "train" / "a" / f"1.{kind}", "RGB", value=200)
    paint(tmp_path / "train" / "a" / "deep" / "er" / "2.png", "RGB", value=200)
    # Told by its content, whatever its name.
    paint(tmp_path / "train" / "a" / "3.webp", "RGB", value=200)
    (tmp_path / "train" / "a" / "3.webp").rename(tmp_path / "train" / "a" / "3.png")
    paint(tmp_path / "test" / "a" / "1.png", "RGB")
    raw = read(tmp_path, silent)
    found = raw.splits["train"].columns["image"]
    assert len(found) == len(kinds) + 2 and raw.check()[1] == ("a",)
    np.testing.assert_allclose(found.astype(int), np.broadcast_to([200, 0, 0], found.shape), atol=6)
    assert raw.notes == ["2 folders within a class's are taken as part of the class: train/a/deep, train/a/deep/er."]


@pytest.mark.parametrize(
    "folders",
    [
        {"train": "train", "test": "test"},
        {"train": "Train", "test": "TEST", "validation": "Val"},
        {"train": "training", "test": "testing", "validation": "valid"},
        {"train": "train", "test": "test", "validation": "validation"},
    ],
)
def test_splits_are_found_by_their_usual_names(tmp_path: Path, folders: dict[str, str]) -> None:
    for number, name in enumerate(folders.values()):
        paint(tmp_path / name / "a" / "0.png", value=number)
    raw = read(tmp_path, silent)
    assert {split: part.columns["image"].max() for split, part in raw.splits.items()} == dict(
        zip(folders, range(3), strict=False)
    )


def test_two_folders_of_one_split_are_refused(pictures: Path, refused: Refused) -> None:
    paint(pictures / "val" / "cat" / "0.png")
    paint(pictures / "validation" / "cat" / "0.png")
    refused(pictures, "images", 2, "val and validation", "keep one")


def test_a_missing_test_split_names_what_is_there(pictures: Path, refused: Refused) -> None:
    (pictures / "test").rename(pictures / "val")
    refused(pictures, "images", 2, "train and test", "but has train, val")


def test_what_is_left_out_is_named_once(pictures: Path) -> None:
    for name in ("labels.csv", "train/cat/1.heic", "train/notes.txt", "train/dog/inner/x.npy", "test/dog/y", "val.txt", "z.svg"):
        (pictures / name).parent.mkdir(exist_ok=True)
        (pictures / name).write_text("no picture")
    paint(pictures / "train" / "loose.png")
    paint(pictures / "cover.png")
    paint(pictures / "unsorted" / "1.png")
    (pictures / "test" / "cat" / "0.png").unlink()
    assert read(pictures, silent).notes == [
        "7 files are no pictures by their names, left out: labels.csv, val.txt, z.svg, train/cat/1.heic, train/dog/inner/x.npy and 2 more.",
        "2 pictures lie in no folder of a class, left out: cover.png, train/loose.png.",
        "1 folder beside the splits is left out: unsorted.",
        "1 folder within a class's is taken as part of the class: train/dog/inner.",
        "The test split has no pictures of cat.",
    ]


def test_what_systems_write_is_passed_over_without_a_word(pictures: Path) -> None:
    for folder in (pictures, pictures / "train", pictures / "train" / "cat", pictures / "test" / "dog"):
        for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini", ".hidden.png"):
            (folder / name).write_bytes(b"\0\x05\x16\x07")
        for name in ("__MACOSX", ".ipynb_checkpoints", "@eaDir", ".git"):
            (folder / name).mkdir()
            (folder / name / "._0.png").write_bytes(b"\0\x05\x16\x07")
            paint(folder / name / "1.png")
    raw = read(pictures, silent)
    assert (raw.notes, raw.classes, len(raw.splits["train"].labels)) == ([], ("cat", "dog"), 5)


def test_links_are_followed_and_lead_in_no_circle(pictures: Path, tmp_path: Path, refused: Refused) -> None:
    paint(tmp_path / "far" / "1.png", value=77)
    (pictures / "train" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(pictures / "train")
    (pictures / "train" / "cat" / "9.png").symlink_to(tmp_path / "far" / "1.png")
    (pictures / "train" / "cat" / "round").symlink_to(pictures / "train" / "cat")
    raw = read(pictures, silent)
    assert raw.classes == ("cat", "dog", "far") and raw.splits["train"].columns["image"][3].max() == 77
    (pictures / "train" / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    refused(pictures, "images", 3, "train/dog/gone.png", "is no file, or a link to none")


def test_pictures_without_folders_of_classes_are_counted(tmp_path: Path, refused: Refused) -> None:
    paint(tmp_path / "in" / "train" / "a" / "0.png")
    paint(tmp_path / "in" / "test" / "0.png")
    refused(tmp_path / "in", "images", 3, "test split is empty", "1 in no folder of a class", "test/CLASS/")
    paint(tmp_path / "none" / "train" / "0.png")
    paint(tmp_path / "none" / "test" / "0.png")
    refused(tmp_path / "none", "images", 3, "no folders of classes", "train/CLASS/*.png")


def test_turned_pictures_have_the_size_that_a_viewer_shows(pictures: Path, refused: Refused) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (4, 6), 33).save(pictures / "train" / "cat" / "9.png", exif=exif)
    raw = read(pictures, silent)
    assert raw.splits["train"].columns["image"][3].max() == 33
    assert raw.notes == ["1 of 8 pictures is turned as the EXIF orientation says; it is train/cat/9.png."]
    Image.new("L", (6, 4), 33).save(pictures / "train" / "cat" / "9.png", exif=exif)
    refused(pictures, "images", 3, "train/cat/9.png", "4x6", "6x4", "one size")


def strokes(folder: Path, colour: int, mode: str = "RGBA") -> Path:
    """Two classes whose pictures differ by their alpha alone."""
    for split in ("train", "test"):
        for number, name in enumerate("ab"):
            alpha = np.zeros((4, 6), np.uint8)
            alpha[number] = 255
            (folder / split / name).mkdir(parents=True)
            pixels = np.stack([*[np.full((4, 6), colour, np.uint8)] * (len(mode) - 1), alpha], axis=-1)
            Image.fromarray(pixels).save(folder / split / name / "0.png")
    return folder


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(("colour", "ground"), [(0, "white"), (90, "white"), (255, "black")])
def test_transparent_pictures_lie_on_white_but_where_nothing_is_seen_on_it(
    tmp_path: Path, mode: str, colour: int, ground: str
) -> None:
    raw = read(strokes(tmp_path, colour, mode), silent)
    images = raw.splits["train"].columns["image"]
    assert raw.ground == ground and images.shape == (2, 4, 6, len(mode) - 1)
    assert images[0, 0].max() == colour and images[0, 1].min() == images[1, 0].max() == (255 if ground == "white" else 0)
    (note,) = raw.notes
    assert note.startswith(f"4 of 4 pictures are transparent and laid over {ground}") and "--ground" in note


def test_the_chosen_ground_is_kept_and_what_is_hidden_on_it_is_said(tmp_path: Path) -> None:
    raw = read(strokes(tmp_path, 0), silent, Choices(ground="black"))
    assert raw.ground == "black" and raw.splits["train"].columns["image"].max() == 0
    assert "4 of 4 pictures are of one colour now, for what they show is black too: see --ground" in "".join(raw.notes)
    Image.new("RGBA", (6, 4), (9, 9, 9, 0)).save(tmp_path / "train" / "a" / "1.png")
    raw = read(tmp_path, silent, Choices(ground="white"))
    assert raw.ground == "white" and raw.splits["train"].columns["image"][1].min() == 255
    assert [note.partition(";")[0] for note in raw.notes] == [
        "5 of 5 pictures are transparent and laid over white",
        "1 of 5 pictures is wholly transparent, so that all is white",
    ]


def test_an_alpha_that_hides_nothing_is_no_transparency(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("RGBA", (6, 4), (1, 2, 3, 255)).save(tmp_path / split / "a" / "0.png")
    raw = read(tmp_path, silent)
    assert raw.notes == [] and raw.splits["train"].columns["image"][0, 0, 0].tolist() == [1, 2, 3]


def test_grey_pictures_among_coloured_ones_are_said(pictures: Path) -> None:
    paint(pictures / "train" / "dog" / "0.png", "RGB")
    assert read(pictures, silent).notes == [
        "6 of 7 pictures are grey and made a colour picture, for others have colours; the first is train/cat/0.png."
    ]
