"""Pictures as arrays of bytes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GREY = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "F"})


def to_array(image: Image.Image, grey: bool) -> NDArray[Any]:
    """The pixels, uint8 [height, width, 1 or 3]; 16 bits are scaled to 8, where Pillow would clip them."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    array = np.asarray(image.convert("L" if grey else "RGB"), np.uint8)
    return array[..., np.newaxis] if grey else array
