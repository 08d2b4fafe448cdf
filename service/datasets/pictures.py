"""PNG and JPEG pictures from outside as arrays of bytes; what would fill the memory is refused before it is decoded."""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from service.errors import BadData

GREY = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "F"})
MOST_PIXELS = 64 * 1024**2
"""A picture of more is a decompression bomb, or nothing to train on in memory (assumed)."""
FLOOR, RATIO = 64 * 1024**2, 200
"""Pictures may decode to FLOOR bytes and RATIO times the size of their files (assumed: those of one colour to a hundred times)."""
MOST_SCANS = 100
"""Of a progressive JPEG, each of which takes as long as a whole picture; libjpeg writes ten."""
_START_OF_SCAN = b"\xff\xda"


class Refused(Exception):
    """What is wrong with a picture, as the end of a sentence that begins with its name."""


def open_picture(source: Path | bytes) -> Image.Image:
    """Read a picture's header; raise Refused for what is no PNG or JPEG, and for what is too large to decode."""
    try:
        # Pillow warns at 89 million pixels, above our own limit.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=("PNG", "JPEG"))
    except Image.DecompressionBombError as error:
        claimed = re.search(r"\d+", str(error))
        raise Refused(f"it claims {claimed[0] if claimed else 'too many'} pixels, more than {MOST_PIXELS}") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise Refused(f"it is no PNG or JPEG picture (at offset 0): {type(error).__name__}") from error
    try:
        _check(image, source)
    except BaseException:
        image.close()
        raise
    return image


def _check(image: Image.Image, source: Path | bytes) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise Refused(f"it claims {image.width * image.height} pixels ({image.width}x{image.height}), more than {MOST_PIXELS}")
    if image.info.get("progressive"):
        scans = (source if isinstance(source, bytes) else source.read_bytes()).count(_START_OF_SCAN)
        if scans > MOST_SCANS:
            raise Refused(f"it is a JPEG of {scans} scans, more than {MOST_SCANS}")


def pixels(image: Image.Image, grey: bool) -> NDArray[Any]:
    """The pixels of an open picture, uint8 [height, width, 1 or 3]; raise Refused where they are damaged."""
    try:
        return to_array(image, grey)
    except (OSError, ValueError, SyntaxError) as error:
        file = getattr(image, "fp", None)
        raise Refused(f"the picture is damaged near offset {file.tell() if file else 0} ({error})") from error


def to_array(image: Image.Image, grey: bool) -> NDArray[Any]:
    """The pixels, uint8 [height, width, 1 or 3]; 16 bits are scaled to 8, where Pillow would clip them."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    array = np.asarray(image.convert("L" if grey else "RGB"), np.uint8)
    return array[..., np.newaxis] if grey else array


def room_for(count: int, shape: tuple[int, ...], packed: int, name: str) -> NDArray[np.uint8]:
    """An array for `count` pictures of a shape; raise BadData where files of `packed` bytes cannot be so many."""
    claimed = count * int(np.prod(shape, dtype=np.int64))
    if claimed > FLOOR + RATIO * packed:
        raise BadData(
            f"{name}: {count} pictures of {shape[1]}x{shape[0]} pixels are {claimed} bytes out of {packed}, more than "
            f"{FLOOR + RATIO * packed} ({FLOOR} and {RATIO} times their size): do not trust these files, or make them smaller."
        )
    return np.empty((count, *shape), np.uint8)
