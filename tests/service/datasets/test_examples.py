"""Single files as a network takes them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from service.datasets import Feature
from service.datasets.examples import bits_as_signs, read_examples
from service.errors import BadData, InvalidInput

GREY = (Feature("image", "uint8", (4, 6, 1), 255.0),)
COLOUR = (Feature("image", "uint8", (4, 6, 3), 255.0),)
DIGITS = (Feature("image", "uint8", (8, 8, 1), 16.0),)
BITS = (Feature("bits", "float32", (4, 1)),)
TOKENS = (Feature("tokens", "int32", (5,)), Feature("length", "float32", ()))
PIXELS = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


def save(path: Path, pixels: Any, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def test_the_one_name_of_an_array_is_reported_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x_train=np.zeros((1, 2)))
    with pytest.raises(BadData, match="no array 'x': it has x_train"):
        read_examples(tmp_path / "bad.npz", (Feature("x", "float32", (2,)),))


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    found = read_examples(save(tmp_path / "a.png", PIXELS), GREY)
    assert (found.count, found.notes) == (1, ())
    np.testing.assert_array_equal(
        found.columns["image"], PIXELS[np.newaxis, ..., np.newaxis].astype(np.float32) / np.float32(255)
    )
    assert found.columns["image"].dtype == np.float32


def test_white_is_one_whatever_the_dataset_is_divided_by(tmp_path: Path) -> None:
    found = read_examples(save(tmp_path / "a.png", np.full((8, 8), 255, np.uint8)), DIGITS)
    assert found.columns["image"].max() == found.columns["image"].min() == 1.0


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA"])
@pytest.mark.parametrize("features", [GREY, COLOUR])
def test_pictures_of_every_mode_come_to_the_shape(tmp_path: Path, mode: str, features: tuple[Feature, ...]) -> None:
    found = read_examples(save(tmp_path / "a.png", np.stack([PIXELS] * 3, axis=-1), mode), features)
    assert found.columns["image"].shape == (1, *features[0].shape)
    grey = mode in ("L", "1", "LA")
    wanted = () if grey == (features is GREY) else ("made grey",) if features is GREY else ("made a colour picture",)
    assert found.notes == wanted


def test_another_size_is_resized_and_noted(tmp_path: Path) -> None:
    found = read_examples(save(tmp_path / "a.jpg", np.full((40, 60), 100, np.uint8)), GREY)
    assert found.notes == ("resized from 60x40 to 6x4",)
    np.testing.assert_allclose(found.columns["image"], 100 / 255, atol=0.01)
    stretched = read_examples(save(tmp_path / "b.png", np.zeros((10, 10), np.uint8)), GREY)
    assert stretched.notes == ("resized from 10x10 to 6x4, which changes its proportions",)


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 65535, np.uint16)).save(tmp_path / "a.png")
    assert read_examples(tmp_path / "a.png", GREY).columns["image"].min() == 1.0


@pytest.mark.parametrize("name", ["x", "image"])
@pytest.mark.parametrize("shape", [(3, 4, 6, 1), (3, 4, 6), (4, 6), (4, 6, 1)])
def test_arrays_are_batches_or_single_examples(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.savez(tmp_path / "a.npz", **{name: values})
    found = read_examples(tmp_path / "a.npz", GREY)
    assert found.count == (3 if shape[0] == 3 else 1)
    np.testing.assert_allclose(found.columns["image"].ravel(), values.ravel() / 255, rtol=1e-6)


def test_several_features_and_whole_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", tokens=np.ones((2, 5), np.int64), length=np.array([1.5, 2.0]), label=np.array([0, 1]))
    found = read_examples(tmp_path / "a.npz", TOKENS)
    assert found.columns["tokens"].dtype == np.int32 and found.columns["length"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.zeros(3)}, "no array 'image' or 'x': it has y"),
        ({"x": np.zeros((3, 5, 6), np.uint8)}, r"the shape \(3, 5, 6\), but the run takes \(examples, 4, 6, 1\)"),
        ({"x": np.zeros((0, 4, 6), np.uint8)}, "holds no examples"),
        ({"x": np.zeros((3, 4, 6))}, "is float64, but the run's dataset holds uint8.*0 to 255"),
        ({"x": np.full((3, 4, 6), 300)}, "from 300 to 300, but uint8 holds 0 to 255"),
        ({"x": np.array(["a"] * 24).reshape(1, 4, 6)}, "is <U1"),
        ({"x": np.array(5, np.uint8)}, r"the shape \(\)"),
    ],
)
def test_arrays_that_do_not_fit_are_named_with_their_file(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(BadData, match=rf"bad\.npz.*{words}") as caught:
        read_examples(tmp_path / "bad.npz", GREY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float64, np.bool_])
def test_bits_of_0_and_1_are_taken_as_signs_and_noted(tmp_path: Path, kind: Any) -> None:
    bits = np.array([[0, 1, 1, 0], [1, 1, 1, 1]])
    np.savez(tmp_path / "a.npz", x=bits.astype(kind))
    found = bits_as_signs(read_examples(tmp_path / "a.npz", BITS))
    np.testing.assert_array_equal(found.columns["bits"], 2.0 * bits[..., np.newaxis] - 1)
    assert found.columns["bits"].dtype == np.float32 and found.notes == ("took 0 and 1 as -1 and 1",)


@pytest.mark.parametrize("bits", [[-1, 1, 1, -1], [-1, -1, -1, -1], [1, 1, 1, 1]])
def test_bits_of_both_signs_are_taken_as_they_are(tmp_path: Path, bits: list[int]) -> None:
    np.savez(tmp_path / "a.npz", x=np.array(bits))
    found = bits_as_signs(read_examples(tmp_path / "a.npz", BITS))
    assert found.columns["bits"].ravel().tolist() == bits and found.notes == ()


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ([0, 1, -1, 1], "-1 as well as 0"),
        ([0, 1, 0.5, 1], "the value 0.5"),
        ([0, 255, 0, 255], "the value 255"),
        ([1, np.nan, 1, 1], "nan"),
    ],
)
def test_what_is_no_bit_is_named_with_its_file(tmp_path: Path, bits: list[float], words: str) -> None:
    np.savez(tmp_path / "bad.npz", x=np.array(bits))
    with pytest.raises(BadData, match=rf"bad\.npz: its bits have .*{words}: write a bit as -1 or 1") as caught:
        bits_as_signs(read_examples(tmp_path / "bad.npz", BITS))
    assert "\n" not in str(caught.value)


def test_numbers_of_examples_must_be_equal(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", tokens=np.ones((2, 5), np.int32), length=np.zeros(3))
    with pytest.raises(BadData, match="2 of tokens, 3 of length"):
        read_examples(tmp_path / "a.npz", TOKENS)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}, []], dtype=object))
    with pytest.raises(BadData, match="Python objects are not read"):
        read_examples(tmp_path / "a.npz", GREY)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.datasets.examples.MOST_BYTES", 1024**2)
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(4 * 1024**2, np.uint8))
    assert (tmp_path / "a.npz").stat().st_size < 10_000
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(BadData, match="it claims 4194"):
        read_examples(tmp_path / "a.npz", GREY)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("bad.png", b"", "it is empty, 0 bytes"),
        ("bad.jpg", b"GIF89a", "no PNG, JPEG"),
        ("bad.npz", b"PK\3\4", "no intact .npz"),
        ("bad.txt", b"text", "give PNG, JPEG, WebP"),
    ],
)
def test_files_that_are_none_are_named(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadData, match=f"{name}.*{words}"):
        read_examples(tmp_path / name, GREY)


def test_a_picture_that_is_cut_off_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    with pytest.raises(BadData, match=r"a\.png: the picture is damaged"):
        read_examples(tmp_path / "a.png", GREY)


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no file .*none\.png"):
        read_examples(tmp_path / "none.png", GREY)
    with pytest.raises(InvalidInput):
        read_examples(tmp_path, GREY)


def test_a_picture_is_nothing_for_a_run_of_other_features(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", PIXELS)
    for features in (TOKENS, (Feature("x", "float32", (4, 6, 1)),), (Feature("image", "uint8", (4, 6, 4), 255.0),)):
        with pytest.raises(BadData, match=r"is a picture, but the run was trained on .*give an \.npz"):
            read_examples(path, features)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [9000, 12_000, 30_000])
def test_a_picture_of_too_many_pixels_is_refused(tmp_path: Path, flat_png: Callable[..., bytes], side: int) -> None:
    (tmp_path / "a.png").write_bytes(flat_png(side, side, rows=1))
    with pytest.raises(BadData, match=f"a.png: it claims {side * side} pixels.*more than 67108864: replace or remove it"):
        read_examples(tmp_path / "a.png", GREY)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_pictures_are_turned_as_at_the_import(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(kind, {})
    stored = np.arange(0, 240, 10, np.uint8).reshape(6, 4)
    path = tmp_path / f"a.{kind.lower()}"
    Image.fromarray(stored).save(path, kind, exif=exif, **options)
    found = read_examples(path, GREY)
    assert "turned as its EXIF orientation says" in found.notes
    np.testing.assert_allclose(found.columns["image"][0, ..., 0], np.rot90(stored, -1) / 255, atol=0.02)


@pytest.mark.parametrize(
    ("ground", "colour", "shown", "hidden"),
    [("white", 0, "white", 0), ("black", 0, "black", 1), ("white", 255, "white", 1), ("", 0, "white", 0), ("", 255, "black", 0)],
)
def test_transparent_pictures_lie_on_the_datasets_ground(
    tmp_path: Path, ground: str, colour: int, shown: str, hidden: int
) -> None:
    pixels = np.full((4, 6, 4), colour, np.uint8)
    pixels[..., 3] = [[255]] + [[0]] * 3
    found = read_examples(save(tmp_path / "a.png", pixels), COLOUR, ground)
    assert found.notes[0] == f"laid over {shown}, for it is transparent" and len(found.notes) == 1 + hidden
    assert found.columns["image"][0, 0].max() == colour / 255
    assert found.columns["image"][0, 1:].max() == found.columns["image"][0, 1:].min() == (shown == "white")


@pytest.mark.parametrize("name", ["a.jfif", "a.bmp", "a.tif", "a.gif", "a.webp", "a.JPE"])
def test_pictures_of_every_kind_are_taken(tmp_path: Path, name: str) -> None:
    found = read_examples(save(tmp_path / name, np.full((4, 6, 3), 100, np.uint8)), COLOUR)
    assert found.notes == ()
    np.testing.assert_allclose(found.columns["image"], 100 / 255, atol=0.02)


def test_rows_of_a_table_meet_the_features_by_their_names(tmp_path: Path) -> None:
    columns, one_hot = ("a", "city=Bonn", "city=Ulm", "b"), (("city", ("Bonn", "Ulm")),)
    features = (Feature("x", "float32", (4,), 1.0, columns, one_hot),)
    table = pa.table({"b": [3, 4], "city": ["Ulm", "Kiel"], "id": [8, 9], "a": [0.5, 1.5]})
    pq.write_table(table, tmp_path / "rows.parquet")
    pa.csv.write_csv(table, tmp_path / "rows.csv")
    for name in ("rows.parquet", "rows.csv"):
        examples = read_examples(tmp_path / name, features)
        assert examples.columns["x"].dtype == np.float32
        assert examples.columns["x"].tolist() == [[0.5, 0, 1, 3], [1.5, 0, 0, 4]] and examples.notes == ("left out id",)
    np.savez(tmp_path / "rows.npz", x=np.ones((2, 4), np.float32))
    assert "a, city=Bonn, city=Ulm, b, in this order" in read_examples(tmp_path / "rows.npz", features).notes[0]
    pq.write_table(table.drop(["city"]), tmp_path / "rows.parquet")
    with pytest.raises(BadData, match="no column city, but the run was trained on a, city, b"):
        read_examples(tmp_path / "rows.parquet", features)
    with pytest.raises(BadData, match=r"no names for the numbers of x: give an \.npz file"):
        read_examples(tmp_path / "rows.csv", (Feature("x", "float32", (4,)),))


def test_a_run_without_scale_gets_stored_values(tmp_path: Path) -> None:
    (image,) = GREY
    np.savez(tmp_path / "a.npz", x=PIXELS)
    path = save(tmp_path / "a.png", PIXELS)
    for file in (tmp_path / "a.npz", path):
        found = read_examples(file, (replace(image, divided=False),)).columns["image"]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found[0, ..., 0], PIXELS)
    white = read_examples(save(tmp_path / "b.png", np.full((8, 8), 255, np.uint8)), (replace(DIGITS[0], divided=False),))
    assert white.columns["image"].min() == white.columns["image"].max() == 16
