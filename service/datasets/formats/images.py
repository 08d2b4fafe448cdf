"""Folders of pictures: `train/CLASS/*.png` and `test/CLASS/*.png`, PNG or JPEG, colour or grey."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from service.datasets.pictures import GREY, to_array
from service.datasets.raw import RawDataset, RawSplit
from service.errors import BadData, InvalidInput

_SUFFIXES = {".png", ".jpg", ".jpeg"}
MOST_PIXELS = 64 * 1024**2
"""A picture of more is a decompression bomb, or nothing to train on in memory (assumed)."""


def read(source: Path, progress: Callable[[int], None]) -> RawDataset:
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
    splits, size = {}, None
    for split, found in files.items():
        if not found:
            raise BadData(f"{source / split} has no PNG or JPEG files: the {split} split is empty.")
        images = []
        for path, _ in found:
            image = decode(path, grey)
            size = size or (path, image.shape)
            if image.shape != size[1]:
                raise BadData(
                    f"{_short(path)} has {_pixels(image.shape)} pixels, but {_short(size[0])} has {_pixels(size[1])}: make all pictures one size."
                )
            images.append(image)
            progress(path.stat().st_size)
        splits[split] = RawSplit(
            {"image": np.stack(images)}, np.array([label for _, label in found], np.int64), str(source / split)
        )
    return RawDataset(splits, classes)


def _files(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    numbers = {name: number for number, name in enumerate(classes)}
    found = []
    for inner in _folders(folder):
        if inner.name not in numbers:
            raise BadData(f"{_short(inner)} is a class that train does not have: it has {', '.join(classes[:10])}.")
        pictures = [path for path in sorted(inner.iterdir()) if path.suffix.lower() in _SUFFIXES]
        if not pictures and folder.name == "train":
            raise BadData(
                f"{_short(inner)} has no PNG or JPEG files: give at least one picture of the class or remove its folder."
            )
        found += [(path, numbers[inner.name]) for path in pictures]
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=("PNG", "JPEG"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadData(
            f"{_short(path)}: it is no PNG or JPEG picture (at offset 0): {type(error).__name__}; replace or remove it."
        ) from error
    if image.width * image.height > MOST_PIXELS:
        raise BadData(
            f"{_short(path)}: it claims {image.width}x{image.height} pixels, more than {MOST_PIXELS}: replace or remove it."
        )
    return image


def _mode(path: Path) -> str:
    with _open(path) as image:
        return str(image.mode)


def is_grey(path: Path) -> bool:
    """Whether a PNG or JPEG file has no colours; raise BadData."""
    return _mode(path) in GREY


def decode(path: Path, grey: bool) -> NDArray[Any]:
    """The pixels of a PNG or JPEG file, uint8 [height, width, 1 or 3]; raise BadData."""
    with _open(path) as image:
        try:
            return to_array(image, grey)
        except (OSError, ValueError, SyntaxError) as error:
            file = getattr(image, "fp", None)
            offset = file.tell() if file else 0
            raise BadData(
                f"{_short(path)}: the picture is damaged near offset {offset} ({error}): replace or remove it."
            ) from error


def _short(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
