"""Pictures from outside as arrays of bytes, as a viewer shows them; what would fill the memory is refused before it is decoded."""

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from service.datasets.choices import other_ground
from service.errors import BadData

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""Pillow's names of what is read; files are recognised by their content, whatever their names."""
SUFFIXES = frozenset({".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"})
READ = "PNG, JPEG, WebP, BMP, TIFF or GIF"
GREY = frozenset({"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"})
MOST_PIXELS = 64 * 1024**2
"""A picture of more is a decompression bomb, or nothing to train on in memory (assumed)."""
FLOOR, RATIO = 64 * 1024**2, 200
"""Pictures may decode to FLOOR bytes and RATIO times the size of their files (assumed: those of one colour to a hundred times)."""
MOST_SCANS = 100
"""Of a progressive JPEG, each of which takes as long as a whole picture; libjpeg writes ten."""
_START_OF_SCAN = b"\xff\xda"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of an EXIF orientation upright."""
_TILE_WIDTH, _TILE_LENGTH, _PHOTOMETRIC = 322, 323, 262
"""Tags of TIFF."""


class Refused(Exception):
    """What is wrong with a picture, as the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture: `pixels`, uint8 [height, width, 1 or 3], as a viewer shows them on the ground, and what was done for it."""

    pixels: NDArray[np.uint8]
    turned: bool = False
    transparent: bool = False
    """Some of it, and laid over the ground."""
    empty: bool = False
    """All of it is transparent."""
    hidden: bool = False
    """What it shows has the ground's colour: it is of one colour now, and would not be on another ground."""
    frames: bool = False
    """It has more than the frame or page that was taken."""
    deep: bool = False
    """It had 16 bits a channel."""
    cmyk: bool = False


def open_picture(source: Path | bytes) -> Image.Image:
    """Read a picture's header; raise Refused for what is none that is read, and for what is too large to decode."""
    head = _head(source)
    if not head:
        raise Refused("it is empty, 0 bytes")
    _check_canvas(head)
    try:
        # Pillow warns at 89 million pixels, above our own limit.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except Image.DecompressionBombError as error:
        claimed = re.search(r"\d+", str(error))
        raise Refused(f"it claims {claimed[0] if claimed else 'too many'} pixels, more than {MOST_PIXELS}") from error
    except MemoryError:
        raise
    # Pillow's readers raise KeyError, struct.error and others for what they do not expect.
    except Exception as error:
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise Refused("it is a TIFF of a kind that is not read: write it with 8 bits a channel, or as PNG") from error
        why = "" if isinstance(error, UnidentifiedImageError) else f", {type(error).__name__}"
        raise Refused(f"it is no {READ} picture (at offset 0{why})") from error
    try:
        _check(image, source)
    except BaseException:
        image.close()
        raise
    return image


def _head(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:30]
    with source.open("rb") as file:
        return file.read(30)


def _check_canvas(head: bytes) -> None:
    """The canvas of a WebP, which Pillow makes room for as it opens the file."""
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return
    kind, width, height = head[12:16], 0, 0
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    elif kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    _check_pixels(width, height)


def _check_pixels(width: int, height: int, *, of: str = "it claims") -> None:
    if width * height > MOST_PIXELS:
        raise Refused(f"{of} {width * height} pixels ({width}x{height}), more than {MOST_PIXELS}")


def _check(image: Image.Image, source: Path | bytes) -> None:
    _check_pixels(image.width, image.height)
    if image.format == "TIFF":
        # A TIFF that is to be turned by a quarter is mapped by Pillow with its sides exchanged (13.0): by its name alone, which goes.
        image.filename = ""  # type: ignore[attr-defined]
        # Room is made for a whole tile, however small the picture is.
        tags = image.tag_v2  # type: ignore[attr-defined]
        tile = [tags.get(tag, 1) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
        if not all(isinstance(side, int) and side > 0 for side in tile):
            raise Refused("it is a damaged TIFF: its tiles have no size")
        _check_pixels(tile[0], tile[1], of="its tiles claim")
    if image.mode in ("I", "F"):
        raise Refused(
            f"its pixels are {'fractions' if image.mode == 'F' else '32-bit or signed numbers'}, whose black and white no file says: "
            "write it with 8 or 16 bits a channel"
        )
    if image.info.get("progressive"):
        scans = (source if isinstance(source, bytes) else source.read_bytes()).count(_START_OF_SCAN)
        if scans > MOST_SCANS:
            raise Refused(f"it is a JPEG of {scans} scans, more than {MOST_SCANS}")


def is_grey(image: Image.Image) -> bool:
    """Whether an open picture has no colours, by its header; palettes are colours."""
    # Of 16 bits with alpha Pillow makes four channels.
    return image.mode in GREY or _raw_mode(image) == "LA;16B"


def decode(image: Image.Image, grey: bool, ground: str) -> Picture:
    """Decode an open picture for one channel or three, over `ground`, white or black; raise Refused where it is damaged."""
    try:
        return _decode(image, grey, ground)
    except MemoryError:
        raise
    # As above: damaged files raise much.
    except Exception as error:
        file = getattr(image, "fp", None)
        at = f" near offset {file.tell()}" if file and not file.closed else ""
        raise Refused(f"the picture is damaged{at} ({error or type(error).__name__})") from error


def _decode(image: Image.Image, grey: bool, ground: str) -> Picture:
    # What is asked before it is loaded is forgotten then.
    raw = _raw_mode(image)
    frames = image.format in ("GIF", "WEBP", "TIFF", "PNG") and bool(getattr(image, "is_animated", False))
    tags: Any = getattr(image, "tag_v2", {})
    orientation, inverted = tags.get(ExifTags.Base.Orientation, 1), tags.get(_PHOTOMETRIC) == 0
    with warnings.catch_warnings():
        # Of metadata that is not used.
        warnings.simplefilter("ignore")
        image.load()
        if image.format == "TIFF":
            upright = image  # Pillow turns it as it loads it.
        else:
            orientation = _orientation(image)
            upright = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
    alpha_of = _with_alpha(upright, raw, inverted)
    facts: dict[str, bool] = {
        "turned": orientation in _TURNS,
        "frames": frames,
        "deep": "16" in raw or upright.mode.startswith("I;16"),
        "cmyk": upright.mode == "CMYK",
    }
    if alpha_of is None:
        return Picture(_channels(_eight_bits(upright, inverted), grey), **facts)
    shown = _channels(_laid_over(alpha_of, ground), grey)
    lowest, highest = alpha_of.getchannel("A").getextrema()
    if lowest == 255:
        return Picture(shown, **facts)
    hidden = _is_plain(shown) and not _is_plain(_channels(_laid_over(alpha_of, other_ground(ground)), grey))
    return Picture(shown, transparent=True, empty=highest == 0, hidden=hidden, **facts)


def _raw_mode(image: Image.Image) -> str:
    """How the file holds its pixels, such as `RGB;16B`; empty where the format does not say."""
    tile = getattr(image, "tile", None) or []
    arguments = tile[0].args if tile else ""
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    # Viewers pass over EXIF that is damaged, and so does this.
    except Exception:
        return 1


def _eight_bits(image: Image.Image, inverted: bool = False) -> Image.Image:
    """The upper 8 of 16 bits, where Pillow would clip them; of a TIFF whose zero is white, turned over."""
    if not image.mode.startswith("I;16"):
        return image
    values = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
    return Image.fromarray(255 - values if inverted else values)


def _with_alpha(image: Image.Image, raw: str, inverted: bool) -> Image.Image | None:
    """The picture as RGBA; None where nothing of it can be transparent."""
    if image.mode in ("RGBA", "LA", "PA"):
        return image.convert("RGBA")
    if image.mode in ("RGBa", "La"):
        return image.convert("RGBA" if image.mode == "RGBa" else "LA").convert("RGBA")
    key = image.info.get("transparency")
    if key is None:
        return None
    if image.mode == "P":
        return image.convert("RGBA")
    # One grey level or colour is transparent, as the file counts it: of a PNG with 2 or 4 bits before it is spread over 8.
    if image.mode.startswith("I;16"):
        seen = np.asarray(image).astype(np.uint16) != np.uint16(key)
    else:
        level = {"L;2": 85, "L;4": 17}.get(raw, 1)
        keys = np.array([value >> 8 if raw.endswith("16B") else value * level for value in np.atleast_1d(key).tolist()])
        pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
        seen = (pixels != keys).any(axis=-1) if pixels.ndim == 3 else pixels != keys[0]
    made = _eight_bits(image, inverted).convert("RGB")
    made.putalpha(Image.fromarray(np.where(seen, 255, 0).astype(np.uint8)))
    return made


def _laid_over(picture: Image.Image, ground: str) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", picture.size, ground), picture).convert("RGB")


def _channels(image: Image.Image, grey: bool) -> NDArray[np.uint8]:
    array = np.asarray(image.convert("L" if grey else "RGB"), np.uint8)
    return array[..., np.newaxis] if grey else array


def _is_plain(pixels: NDArray[np.uint8]) -> bool:
    return bool((pixels == pixels[:1, :1]).all())


def room_for(count: int, shape: tuple[int, ...], packed: int, name: str) -> NDArray[np.uint8]:
    """An array for `count` pictures of a shape; raise BadData where files of `packed` bytes cannot be so many."""
    claimed = count * int(np.prod(shape, dtype=np.int64))
    if claimed > FLOOR + RATIO * packed:
        raise BadData(
            f"{name}: {count} pictures of {shape[1]}x{shape[0]} pixels are {claimed} bytes out of {packed}, more than "
            f"{FLOOR + RATIO * packed} ({FLOOR} and {RATIO} times their size): do not trust these files, or make them smaller."
        )
    return np.empty((count, *shape), np.uint8)
