"""Random changes of images: a function of (seed, epoch, example) alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jobs.datasets.augmentation import Augmenter, make_augmenter, uniforms
from service.errors import InvalidInput
from service.specs.parts import Named

ALL = ("flip", "shift", "cutout")
IMAGES = np.random.default_rng(0).integers(1, 256, (40, 9, 7, 3), np.uint8)


def augmenter(*entries: dict[str, Any], seed: int = 0) -> Augmenter:
    made = make_augmenter(tuple(Named.model_validate(entry) for entry in entries), seed)
    assert made is not None
    return made


def change(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, **arguments}


@given(
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 10**6),
    names=st.lists(st.sampled_from(ALL), min_size=1, max_size=4),
    examples=st.lists(st.integers(0, 39), min_size=1, max_size=20),
    data=st.data(),
)
def test_an_image_is_changed_alike_in_any_batch_and_at_any_place(
    seed: int, epoch: int, names: list[str], examples: list[int], data: st.DataObject
) -> None:
    made = augmenter(*(change(name) for name in names), seed=seed)
    numbers = np.array(examples)
    together = made.apply(IMAGES[numbers], epoch, numbers)
    assert together.shape == IMAGES[numbers].shape
    assert together.dtype == np.uint8
    order = np.array(data.draw(st.permutations(range(len(examples)))))
    assert (made.apply(IMAGES[numbers[order]], epoch, numbers[order]) == together[order]).all()
    for place, number in enumerate(numbers):
        alone = made.apply(IMAGES[number : number + 1], epoch, np.array([number]))
        assert (alone[0] == together[place]).all()


@pytest.mark.parametrize("name", ALL)
def test_seeds_epochs_and_examples_have_changes_of_their_own(name: str) -> None:
    numbers = np.arange(40)
    same = np.repeat(IMAGES[:1], 40, axis=0)
    results = [augmenter(change(name), seed=seed).apply(same, epoch, numbers) for seed in (0, 1) for epoch in (0, 1)]
    for first in range(4):
        for second in range(first):
            assert (results[first] != results[second]).any()
    assert len(np.unique(results[0].reshape(40, -1), axis=0)) > 1


@pytest.mark.parametrize("name", ALL)
def test_the_images_that_are_given_stay_as_they_are(name: str) -> None:
    images = IMAGES.copy()
    images.flags.writeable = False
    augmenter(change(name)).apply(images, 0, np.arange(40))
    assert (images == IMAGES).all()


@pytest.mark.parametrize("alternating", [False, True])
def test_a_flip_mirrors_about_half_and_twice_is_the_identity(alternating: bool) -> None:
    numbers = np.arange(2000)
    images = np.random.default_rng(1).integers(0, 256, (2000, 3, 4, 1), np.uint8)
    flip = augmenter(change("flip", alternating=alternating))
    once = flip.apply(images, 5, numbers)
    mirrored = (once == images[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (once == images).all((1, 2, 3))).all()
    assert 900 < mirrored.sum() < 1100
    assert (flip.apply(once, 5, numbers) == images).all()


def test_an_alternating_flip_shows_the_other_side_each_epoch() -> None:
    flip, numbers = augmenter(change("flip", alternating=True)), np.arange(40)
    epochs = [flip.apply(IMAGES, epoch, numbers) for epoch in range(4)]
    assert (epochs[0] == epochs[2]).all()
    assert (epochs[1] == epochs[3]).all()
    assert (epochs[0] == epochs[1][:, :, ::-1]).all()


def shifted(image: NDArray[np.uint8], down: int, right: int, pixels: int) -> NDArray[np.uint8]:
    padded = np.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")
    height, width, _ = image.shape
    return padded[pixels + down : pixels + down + height, pixels + right : pixels + right + width]


@pytest.mark.parametrize("pixels", [1, 2, 4, 20])
def test_a_shift_takes_a_window_of_the_mirrored_image_at_most_pixels_away(pixels: int) -> None:
    numbers = np.arange(40)
    moved = augmenter(change("shift", pixels=pixels)).apply(IMAGES, 3, numbers)
    ways = [(down, right) for down in range(-pixels, pixels + 1) for right in range(-pixels, pixels + 1)]
    for number in numbers[: 40 if pixels < 20 else 2]:
        assert any((moved[number] == shifted(IMAGES[number], *way, pixels)).all() for way in ways)


def test_every_step_of_a_shift_occurs_about_equally_often() -> None:
    # Each pixel holds its own column, so that the middle one shows the step.
    images = np.broadcast_to(np.arange(21, dtype=np.uint8)[None, None, :, None], (5000, 3, 21, 1))
    moved = augmenter(change("shift", pixels=2)).apply(images, 0, np.arange(5000))
    steps, counts = np.unique(moved[:, 1, 10, 0].astype(int) - 10, return_counts=True)
    assert list(steps) == [-2, -1, 0, 1, 2]
    assert counts.min() > 850
    assert counts.max() < 1150


@pytest.mark.parametrize("size", [1, 3, 4, 50])
def test_a_cutout_blackens_one_rectangle_of_at_most_size_and_nothing_else(size: int) -> None:
    cut = augmenter(change("cutout", size=size)).apply(IMAGES, 1, np.arange(40))
    black = (cut == 0).all(-1)
    assert (cut[~black] == IMAGES[~black]).all()
    for mask in black:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert 1 <= len(rows) <= size
        assert 1 <= len(columns) <= size
        assert mask.sum() == len(rows) * len(columns)
        assert (np.diff(rows) == 1).all()
        assert (np.diff(columns) == 1).all()


def test_images_of_one_pixel_can_be_changed() -> None:
    image = np.full((2, 1, 1, 1), 7, np.uint8)
    assert (augmenter(change("flip"), change("shift")).apply(image, 0, np.arange(2)) == 7).all()


def test_two_changes_of_the_same_kind_draw_numbers_of_their_own() -> None:
    numbers = np.arange(40)
    once, twice = augmenter(change("flip")), augmenter(change("flip"), change("flip"))
    assert (twice.apply(IMAGES, 0, numbers) != once.apply(once.apply(IMAGES, 0, numbers), 0, numbers)).any()


@given(seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 2**40), draw=st.integers(0, 10))
def test_uniform_numbers_are_uniform(seed: int, epoch: int, draw: int) -> None:
    numbers = uniforms(seed, epoch, np.arange(1000), draw)
    assert ((numbers >= 0) & (numbers < 1)).all()
    # Five standard deviations of the mean of 1,000.
    assert abs(numbers.mean() - 0.5) < 5 / np.sqrt(12 * 1000)
    assert len(np.unique(numbers)) == 1000


def test_no_changes_need_no_augmenter() -> None:
    assert make_augmenter((), 0) is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (change("mixup"), "unknown change 'mixup': use cutout or flip or shift"),
        (change("flip", pixels=2), "flip does not take pixels; it takes alternating"),
        (change("shift", pixels=0), "whole number from 1 to 64"),
        (change("shift", pixels=65), "whole number from 1 to 64"),
        (change("shift", pixels=1.5), "whole number from 1 to 64"),
        (change("shift", pixels=True), "whole number from 1 to 64"),
        (change("shift", pixels="2"), "whole number from 1 to 64"),
        (change("cutout", size=0), "whole number from 1 to 256"),
        (change("cutout", size=None), "whole number from 1 to 256"),
        (change("flip", alternating="yes"), "true or false"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        augmenter(entry)
    assert "\n" not in str(refused.value)
