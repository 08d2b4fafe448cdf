"""Single files as examples for a trained network: pictures and NumPy arrays, brought to the shape of the network's dataset."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.datasets.choices import other_ground
from service.datasets.example_rows import READERS, read_rows
from service.datasets.formats.npz import read_arrays
from service.datasets.manifest import Feature
from service.datasets.pictures import READ, SUFFIXES, Picture, Refused, decode, is_grey, open_picture
from service.datasets.viewer import DEFAULT_GROUND
from service.errors import BadData, InvalidInput

GIVE = f"give {READ} pictures, .npz, CSV or Parquet files"
MOST_BYTES = 2 * 1024**3
"""Of one file unpacked (assumed: more than anybody classifies at once)."""


@dataclass(frozen=True)
class Examples:
    """The examples of one file. `columns`: features as the network takes them, [examples, …] by name.

    `notes`: what was changed to make them fit.
    """

    file: str
    columns: dict[str, NDArray[Any]]
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(next(iter(self.columns.values())))


def read_examples(path: Path, features: tuple[Feature, ...], ground: str = "") -> Examples:
    """Read a picture or an .npz file; raise InvalidInput for a file that is not there, BadData for one that cannot be used.

    `ground`: what the dataset's transparent pictures lie on; empty where it says none, and white is taken then, or black where
    nothing of a picture is seen on white.
    """
    if not path.is_file():
        raise InvalidInput(f"There is no file {path}: {GIVE}.")
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return _picture(path, features, ground)
    if suffix == ".npz":
        return _arrays(path, features)
    if suffix in READERS:
        return Examples(str(path), *read_rows(path, features))
    raise BadData(f"{path} is no file that can be classified: {GIVE}.")


def bits_as_signs(examples: Examples) -> Examples:
    """Bits as a network learns them, -1 and 1; those of a file that has 0 and 1 are changed, and noted. Raise BadData for other values."""
    columns, notes = {}, list(examples.notes)
    for name, array in examples.columns.items():
        values = np.unique(array)
        if np.isin(values, (-1, 1)).all():
            columns[name] = array
        elif np.isin(values, (0, 1)).all():
            columns[name] = 2 * array - 1
            notes.append("took 0 and 1 as -1 and 1")
        else:
            other = values[~np.isin(values, (-1, 0, 1))]
            found = f"the value {other[0]:g}" if len(other) else "-1 as well as 0"
            raise BadData(f"{examples.file}: its bits have {found}: write a bit as -1 or 1, or all of them as 0 or 1.")
    return replace(examples, columns=columns, notes=tuple(notes))


def _picture(path: Path, features: tuple[Feature, ...], ground: str) -> Examples:
    feature = features[0]
    if len(features) != 1 or len(feature.shape) != 3 or feature.shape[2] not in (1, 3) or feature.dtype != "uint8":
        wanted = ", ".join(f"{each.name} ({each.dtype} {'x'.join(map(str, each.shape)) or 'number'})" for each in features)
        raise BadData(f"{path} is a picture, but the run was trained on {wanted}: give an .npz file.")
    height, width, channels = feature.shape
    picture, notes = _seen(path, channels == 1, ground)
    pixels = picture.pixels
    if pixels.shape[:2] != (height, width):
        stretched = pixels.shape[0] * width != pixels.shape[1] * height
        changed = ", which changes its proportions" if stretched else ""
        notes.append(f"resized from {pixels.shape[1]}x{pixels.shape[0]} to {width}x{height}{changed}")
        pixels = _resized(pixels, width, height)
    # A picture's own range is 0 to 255, whatever the dataset's stored values go up to.
    divisor = np.float32(255 if feature.divided else 255 / feature.scale)
    return Examples(str(path), {feature.name: pixels[np.newaxis].astype(np.float32) / divisor}, tuple(notes))


def _seen(path: Path, grey: bool, ground: str) -> tuple[Picture, list[str]]:
    """The picture as the import would read it, and what was done for that."""
    used = ground or DEFAULT_GROUND
    found, was_grey = _decoded(path, grey, used)
    if found.hidden and not ground:
        used = other_ground(used)
        found, was_grey = _decoded(path, grey, used)
    noted = {
        "turned as its EXIF orientation says": found.turned,
        f"laid over {used}, for it is transparent": found.transparent,
        f"all of it is {used} now, for what it shows is {used} too": found.hidden,
        "all of it is transparent": found.empty,
        "the first of several frames or pages": found.frames,
        "scaled from 16 bits a channel to 8": found.deep,
        "made RGB of inks (CMYK), without a colour profile": found.cmyk,
        "made grey" if grey else "made a colour picture": was_grey != grey,
    }
    return found, [note for note, applies in noted.items() if applies]


def _decoded(path: Path, grey: bool, ground: str) -> tuple[Picture, bool]:
    try:
        with open_picture(path) as image:
            was_grey = is_grey(image)
            return decode(image, grey, ground), was_grey
    except Refused as error:
        raise BadData(f"{path}: {error}: replace or remove it.") from error


def _resized(pixels: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels)
    made = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.uint8)
    return made[..., np.newaxis] if grey else made


def _arrays(path: Path, features: tuple[Feature, ...]) -> Examples:
    arrays = read_arrays(path, MOST_BYTES)
    columns = {}
    for feature in features:
        name = "x" if len(features) == 1 and feature.name not in arrays else feature.name
        if name not in arrays:
            wanted = f"{feature.name!r} or 'x'" if len(features) == 1 and feature.name != "x" else repr(feature.name)
            raise BadData(f"{path} has no array {wanted}: it has {', '.join(sorted(arrays)[:10]) or 'none'}.")
        columns[feature.name] = _scaled(path, name, _shaped(path, name, arrays[name], feature), feature)
    counts = {name: len(array) for name, array in columns.items()}
    if len(set(counts.values())) > 1:
        raise BadData(
            f"{path} has {', '.join(f'{count} of {name}' for name, count in counts.items())}: their numbers must be equal."
        )
    if 0 in counts.values():
        raise BadData(f"{path} holds no examples.")
    return Examples(str(path), columns, tuple(_order(feature) for feature in features if feature.columns))


def _order(feature: Feature) -> str:
    """Which columns the numbers of an array without names are."""
    more = f" and {len(feature.columns) - 20} more" if len(feature.columns) > 20 else ""
    return f"took {feature.name} as {', '.join(feature.columns[:20])}{more}, in this order"


def _shaped(path: Path, name: str, array: NDArray[Any], feature: Feature) -> NDArray[Any]:
    """The array as [examples, *shape]; a single example, and pictures without an axis for their one channel, are taken too."""
    shape = feature.shape
    for wanted in (shape, shape[:-1]) if shape and shape[-1] == 1 else (shape,):
        if array.shape[1:] == wanted and array.ndim:
            return array.reshape(len(array), *shape)
        if array.shape == wanted:
            return array.reshape(1, *shape)
    example = ", ".join(map(str, shape))
    raise BadData(f"{path}: {name!r} has the shape {array.shape}, but the run takes (examples, {example}).")


def _scaled(path: Path, name: str, array: NDArray[Any], feature: Feature) -> NDArray[Any]:
    stored = np.dtype(feature.dtype)
    if array.dtype.kind not in "iufb" or (stored.kind in "iu" and array.dtype.kind == "f"):
        raise BadData(
            f"{path}: {name!r} is {array.dtype}, but the run's dataset holds {stored}: give values as they are stored there"
            f"{f', 0 to {feature.scale:g}' if feature.scale != 1 else ''}."
        )
    if stored.kind in "iu" and array.size:
        limits = np.iinfo(stored)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise BadData(
                f"{path}: {name!r} has values from {array.min()} to {array.max()}, but {stored} holds {limits.min} to {limits.max}."
            )
    divisor = feature.divisor
    return array.astype(stored) if divisor is None else array.astype(np.float32) * np.float32(1 / divisor)
