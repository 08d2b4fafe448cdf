"""Pictures as a viewer shows them, of every kind that is read, and what is refused before it is decoded."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from service.datasets.pictures import MOST_PIXELS, Picture, Refused, decode, is_grey, open_picture

# By the standard, EXIF 2.32, 4.6.4 A: what a viewer does to the stored rows and columns.
UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
    8: np.rot90,
}
LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "WEBP": {"lossless": True, "exact": True}, "TIFF": {}, "JPEG": {"quality": 100}}


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **{**LOSSLESS.get(kind, {}), **options})
    return buffer.getvalue()


def see(data: bytes | Path, grey: bool = False, ground: str = "white") -> Picture:
    with open_picture(data) as image:
        return decode(image, grey, ground)


def png(header: tuple[int, int, int, int], rows: list[bytes], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of width, height, bit depth and colour type, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">2I2B3x", *header))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*each) for each in chunks) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pictures_are_turned_as_exif_says(tmp_path: Path, kind: str, mode: str, orientation: int) -> None:
    if (kind, mode) == ("JPEG", "RGBA"):
        mode = "CMYK"
    stored = np.arange(0, 240, 10, np.uint8).reshape(4, 6)
    image = Image.fromarray(np.stack([stored] * 3, axis=-1)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(image, kind, exif=exif)
    (tmp_path / "a").write_bytes(data)
    wanted = UPRIGHT[orientation](stored)
    for source in (data, tmp_path / "a"):
        found = see(source, grey=True)
        assert found.pixels.shape == (*wanted.shape, 1) and found.turned == (orientation > 1)
        np.testing.assert_allclose(found.pixels[..., 0].astype(int), wanted, atol=4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_is_passed_over(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = see(encode(Image.new("L", (6, 4)), "JPEG", exif=exif))
    assert found.pixels.shape == (4, 6, 3) and not found.turned


def test_damaged_exif_is_passed_over_as_viewers_do() -> None:
    data = encode(Image.new("L", (6, 4)), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert see(data).pixels.shape == (4, 6, 3)


def test_exif_behind_the_pixels_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.arange(24, dtype=np.uint8).reshape(4, 6)
    data, body = encode(Image.fromarray(stored), "PNG"), exif.tobytes()[6:]
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    found = see(data[:-12] + chunk + data[-12:], grey=True)
    np.testing.assert_array_equal(found.pixels[..., 0], np.rot90(stored, -1))


@given(
    arrays(np.uint8, (3, 2, 4)),
    st.sampled_from(["PNG", "WEBP", "TIFF"]),
    st.sampled_from(["white", "black"]),
)
def test_transparent_pictures_are_laid_over_the_ground(pixels: NDArray[np.uint8], kind: str, ground: str) -> None:
    found = see(encode(Image.fromarray(pixels), kind), ground=ground)
    colours, alpha = pixels[..., :3].astype(float), pixels[..., 3:] / 255
    wanted = colours * alpha + (255 if ground == "white" else 0) * (1 - alpha)
    np.testing.assert_allclose(found.pixels, wanted, atol=1)
    assert found.transparent == bool((pixels[..., 3] < 255).any()) and found.empty == (not pixels[..., 3].any())


def palette(transparency: Any) -> Image.Image:
    image = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.info["transparency"] = transparency
    return image


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (encode(palette(1), "PNG", transparency=1), [[10, 255], [255, 70]]),
        (encode(palette(1), "GIF", transparency=1), [[10, 255], [255, 70]]),
        (encode(palette(b"\xff\x80\x00"), "PNG", transparency=b"\xff\x80\x00"), [[10, 147], [147, 255]]),
        # Black strokes on transparent black.
        (encode(Image.fromarray(np.array([[[0, 0], [0, 255]]], np.uint8), "LA"), "PNG"), [[255, 0]]),
        # Grey with one transparent level, of 8, 2, 1 and 16 bits; colours of 8 and 16.
        (png((2, 1, 8, 0), [b"\x07\x09"], (b"tRNS", b"\0\x07")), [[255, 9]]),
        (png((4, 1, 2, 0), [b"\x1b"], (b"tRNS", b"\0\x02")), [[0, 85, 255, 255]]),
        (png((2, 1, 1, 0), [b"\x80"], (b"tRNS", b"\0\x00")), [[255, 255]]),
        (png((2, 1, 16, 0), [b"\x40\x01\x40\x02"], (b"tRNS", b"\x40\x02")), [[64, 255]]),
        (png((2, 1, 8, 2), [b"\x01\x02\x03\x01\x02\x04"], (b"tRNS", b"\0\x01\0\x02\0\x04")), [[1, 255]]),
        (png((1, 1, 16, 2), [b"\x01\x00\x02\x00\x03\x00"], (b"tRNS", b"\x01\x00\x02\x00\x03\x00")), [[255]]),
        # Grey with alpha, of 16 bits.
        (png((2, 1, 16, 4), [b"\x40\x00\xff\xff\x40\x00\x00\x00"]), [[64, 255]]),
    ],
)
def test_transparency_of_every_kind_is_seen(data: bytes, wanted: list[list[int]]) -> None:
    found = see(data)
    np.testing.assert_allclose(found.pixels[..., 0].astype(int), wanted, atol=1)
    assert found.transparent


def test_sixteen_bits_with_alpha_are_grey() -> None:
    with open_picture(png((2, 1, 16, 4), [b"\x40\x00\xff\xff\x40\x00\x00\x00"])) as image:
        assert is_grey(image) and decode(image, True, "white").deep


def test_what_has_the_grounds_colour_is_hidden_on_it_alone() -> None:
    pixels = np.full((3, 3, 4), 255, np.uint8)
    pixels[1:, :, 3] = 0
    data = encode(Image.fromarray(pixels), "PNG")
    assert see(data).hidden and not see(data, ground="black").hidden
    assert not see(encode(Image.new("RGBA", (3, 3), (255, 255, 255, 0)), "PNG")).hidden


def test_a_tiff_whose_zero_is_white_is_turned_over() -> None:
    values = np.array([[0, 65535]], np.uint16)
    data = bytearray(encode(Image.fromarray(values), "TIFF"))
    entry = struct.pack("<HHII", 262, 3, 1, 1)
    assert data.count(entry) == 1
    assert see(bytes(data).replace(entry, struct.pack("<HHII", 262, 3, 1, 0)), grey=True).pixels.ravel().tolist() == [255, 0]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_of_several_frames_is_taken(kind: str) -> None:
    first, second = (Image.new("RGB", (4, 4), (value, value, value)) for value in (10, 200))
    found = see(encode(first, kind, save_all=True, append_images=[second]))
    assert found.frames and found.pixels.max() <= 12
    assert not see(encode(first, kind)).frames


def test_inks_are_light_where_there_are_none() -> None:
    found = see(encode(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "JPEG"))
    assert found.cmyk and found.pixels.min() >= 254


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_whose_range_nothing_says_are_refused(mode: str) -> None:
    with pytest.raises(Refused, match="write it with 8 or 16 bits"):
        see(encode(Image.new(mode, (4, 4)), "TIFF"))


def webp_canvas(kind: bytes, width: int, height: int) -> bytes:
    size = b"\x10\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    if kind == b"VP8L":
        size = b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little")
    if kind == b"VP8 ":
        size = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + kind + struct.pack("<I", len(size)) + size + bytes(80)


def tiff(**changes: int) -> bytes:
    """Little-endian, 8 bits grey, of tags by their number: one strip, or one tile where `t322` is given."""
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 1}
    tags |= {int(name[1:]): value for name, value in changes.items()}
    if 322 in tags:
        tags = {tag: value for tag, value in tags.items() if tag not in (273, 278, 279)} | {324: 8, 325: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "data",
    [
        webp_canvas(b"VP8X", 2**24, 255),
        webp_canvas(b"VP8X", 9000, 9000),
        webp_canvas(b"VP8L", 16000, 16000),
        webp_canvas(b"VP8 ", 16000, 16000),
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
        # A frame that is larger than the screen.
        b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b",\0\0\0\0" + struct.pack("<HH", 65535, 65535) + b"\0\2\2D\1\0;",
        b"BM" + struct.pack("<IHHI", 60, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0),
        b"BM" + struct.pack("<IHHI", 60, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 30000, -30000, 1, 24, 0, 0, 0, 0, 0, 0),
        tiff(t256=60000, t257=60000),
        tiff(t322=60000, t323=60000, t259=8),
    ],
)
def test_pictures_that_claim_too_much_are_refused_before_they_are_decoded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(Refused, match=f"claims? .* more than {MOST_PIXELS}"):
        see(data)


@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"II*\0", b"MM\0*", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBPVP8X", b"\x89PNG\r\n\x1a\n"]),
)
def test_bytes_that_are_no_picture_are_refused(tail: bytes, head: bytes) -> None:
    try:
        found = see(head + tail)
    except Refused as error:
        assert str(error)
    else:
        # By chance they may be one.
        assert found.pixels.dtype == np.uint8


@given(st.data())
def test_damaged_pictures_are_seen_or_refused(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]))
    whole = bytearray(encode(Image.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3)), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert see(bytes(whole)).pixels.shape[2] == 3
    except Refused as error:
        assert str(error)


def test_unknown_tiffs_are_errors_that_say_how_to_write_them() -> None:
    with pytest.raises(Refused, match="a kind that is not read: write it with 8 bits a channel, or as PNG"):
        see(tiff(t259=65000))
