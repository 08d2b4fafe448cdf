"""Folders of pictures: `train/CLASS/*.png` and `test/CLASS/*.png`, PNG or JPEG, colour or grey."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.datasets.choices import NONE, Choices
from service.datasets.pictures import GREY, Refused, open_picture, pixels, room_for
from service.datasets.raw import RawDataset, RawSplit
from service.errors import BadData, InvalidInput

_SUFFIXES = {".png", ".jpg", ".jpeg"}


def read(source: Path, progress: Callable[[int], None], choices: Choices = NONE) -> RawDataset:
    """Read all pictures below `train` and `test`; the classes are the names of the folders, sorted.

    All pictures must have one size. They become grey (one channel) if all are grey, else three channels.
    """
    if not (source / "train").is_dir() or not (source / "test").is_dir():
        raise InvalidInput(f"{source} needs the folders train and test, each with one folder for each class: train/CLASS/*.png.")
    classes = tuple(path.name for path in _folders(source / "train"))
    if not classes:
        raise BadData(f"{source / 'train'} has no folders: put the pictures of each class into a folder of its name.")
    files = {split: _files(source / split, classes) for split in ("train", "test")}
    grey = all(is_grey(path) for found in files.values() for path, _ in found)
    packed = sum(path.stat().st_size for found in files.values() for path, _ in found)
    splits, first = {}, None
    for split, found in files.items():
        if not found:
            raise BadData(f"{source / split} has no PNG or JPEG files: the {split} split is empty.")
        first = first or found[0][0]
        splits[split] = RawSplit(
            {"image": _images(found, first, grey, packed, progress)},
            np.array([label for _, label in found], np.int64),
            str(source / split),
        )
    return RawDataset(splits, classes)


def _files(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    numbers = {name: number for number, name in enumerate(classes)}
    found = []
    for inner in _folders(folder):
        if inner.name not in numbers:
            raise BadData(f"{_short(inner)} is a class that train does not have: it has {', '.join(classes[:10])}.")
        pictures = [path for path in sorted(inner.iterdir()) if path.suffix.lower() in _SUFFIXES]
        if (strange := next((path for path in pictures if not path.is_file()), None)) is not None:
            # To open a pipe waits for whoever writes into it.
            raise BadData(f"{_short(strange)} is no file: replace or remove it.")
        if not pictures and folder.name == "train":
            raise BadData(
                f"{_short(inner)} has no PNG or JPEG files: give at least one picture of the class or remove its folder."
            )
        found += [(path, numbers[inner.name]) for path in pictures]
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(
    found: list[tuple[Path, int]], first: Path, grey: bool, packed: int, progress: Callable[[int], None]
) -> NDArray[np.uint8]:
    """The pictures of a split, each of the size of `first`; `packed`: the bytes of all files."""
    shape = _shape(first, grey)
    images = room_for(len(found), shape, packed, "/".join(first.parts[-3:-2]) or first.name)
    for number, (path, _) in enumerate(found):
        other = _shape(path, grey)
        if other != shape:
            raise BadData(
                f"{_short(path)} has {_pixels(other)} pixels, but {_short(first)} has {_pixels(shape)}: make all pictures one size."
            )
        images[number] = decode(path, grey)
        progress(path.stat().st_size)
    return images


def _shape(path: Path, grey: bool) -> tuple[int, ...]:
    with _open(path) as image:
        return (image.height, image.width, 1 if grey else 3)


def _open(path: Path) -> Image.Image:
    try:
        return open_picture(path)
    except Refused as error:
        raise BadData(f"{_short(path)}: {error}: replace or remove it.") from error


def is_grey(path: Path) -> bool:
    """Whether a PNG or JPEG file has no colours; raise BadData."""
    with _open(path) as image:
        return image.mode in GREY


def decode(path: Path, grey: bool) -> NDArray[Any]:
    """The pixels of a PNG or JPEG file, uint8 [height, width, 1 or 3]; raise BadData."""
    with _open(path) as image:
        try:
            return pixels(image, grey)
        except Refused as error:
            raise BadData(f"{_short(path)}: {error}: replace or remove it.") from error


def _short(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
