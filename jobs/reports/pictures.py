"""Small arrays as PNG pictures that stand in the page itself."""

import base64
import io

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]


def png(array: Bytes) -> str:
    """A picture [h, w], [h, w, 1], [h, w, 3] or [h, w, 4] as a `data:` address."""
    pixels = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def heat(array: Bytes) -> Bytes:
    """Values [h, w] in the colours of a map that grows evenly in brightness, with colour-blind people too."""
    table = np.rint(255 * matplotlib.colormaps["inferno"](np.arange(256))[:, :3]).astype(np.uint8)
    return np.asarray(table[array])


def wide(array: Bytes, columns: int = 16) -> Bytes:
    """A picture of single values [n, 1, 1] as rows of `columns`, the rest zero."""
    flat = array.reshape(-1)
    rows = -(-len(flat) // columns)
    padded = np.zeros(rows * columns, np.uint8)
    padded[: len(flat)] = flat
    return padded.reshape(rows, columns)
