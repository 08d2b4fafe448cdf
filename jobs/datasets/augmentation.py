"""Random changes of training images, made on the host: the same for the same (seed, epoch, example) in whatever batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInput
from service.specs.parts import Named

Images = NDArray[np.uint8]
Uniforms = NDArray[np.float64]


def uniforms(seed: int, epoch: int, examples: NDArray[np.int64], draw: int) -> Uniforms:
    """A number from 0 to below 1 for each example, a function of the four arguments alone.

    The counter (seed, epoch, example, draw) is mixed by the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    """
    with np.errstate(over="ignore"):
        state = _mix(np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15))
        for word in (epoch, draw):
            state = _mix(state ^ (np.uint64(word) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0xD1B54A32D192ED03)))
        mixed = _mix(examples.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + state)
    uniform: Uniforms = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
    return uniform


def _mix(value: Any) -> Any:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@dataclass(frozen=True)
class Flip:
    """Mirrors left and right, with a probability of a half, or in turn (`alternating: true`, as in airbench)."""

    alternating: bool = False
    draws = 1

    def __post_init__(self) -> None:
        if not isinstance(self.alternating, bool):
            raise InvalidInput(f"augment: flip has alternating={str(self.alternating)[:40]}, but it must be true or false.")

    def apply(self, images: Images, epoch: int, numbers: Callable[[int, bool], Uniforms]) -> Images:
        # Alternating: the first epoch's side is drawn, later epochs change it.
        chosen = (numbers(0, False) < 0.5) ^ bool(epoch % 2) if self.alternating else numbers(0, True) < 0.5
        changed = images.copy()
        changed[chosen] = images[chosen, :, ::-1]
        return changed


@dataclass(frozen=True)
class Shift:
    """Moves by up to `pixels` in each direction, every whole step alike; the border is mirrored."""

    pixels: int = 2
    draws = 2

    def __post_init__(self) -> None:
        if isinstance(self.pixels, bool) or not isinstance(self.pixels, int) or not 1 <= self.pixels <= 64:
            raise InvalidInput(f"augment: shift has pixels={str(self.pixels)[:40]}, but it must be a whole number from 1 to 64.")

    def apply(self, images: Images, epoch: int, numbers: Callable[[int, bool], Uniforms]) -> Images:
        count, height, width, _ = images.shape
        steps = 2 * self.pixels + 1
        down = (numbers(0, True) * steps).astype(np.int64) - self.pixels
        right = (numbers(1, True) * steps).astype(np.int64) - self.pixels
        rows = _mirrored(np.arange(height)[None, :] + down[:, None], height)
        columns = _mirrored(np.arange(width)[None, :] + right[:, None], width)
        return images[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True)
class Cutout:
    """Blackens a square of `size` pixels around a random pixel (DeVries and Taylor 2017)."""

    size: int = 8
    draws = 2

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 1 <= self.size <= 256:
            raise InvalidInput(f"augment: cutout has size={str(self.size)[:40]}, but it must be a whole number from 1 to 256.")

    def apply(self, images: Images, epoch: int, numbers: Callable[[int, bool], Uniforms]) -> Images:
        _, height, width, _ = images.shape
        top = (numbers(0, True) * height).astype(np.int64) - self.size // 2
        left = (numbers(1, True) * width).astype(np.int64) - self.size // 2
        rows, columns = np.arange(height)[None, :], np.arange(width)[None, :]
        inside_rows = (rows >= top[:, None]) & (rows < top[:, None] + self.size)
        inside_columns = (columns >= left[:, None]) & (columns < left[:, None] + self.size)
        changed = images.copy()
        changed[inside_rows[:, :, None] & inside_columns[:, None, :]] = 0
        return changed


def _mirrored(positions: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Positions outside 0…length-1 mirrored at the border pixels, as often as need be."""
    if length == 1:
        return np.zeros_like(positions)
    period = 2 * (length - 1)
    folded = np.abs(positions) % period
    return np.where(folded >= length, period - folded, folded)


KINDS: dict[str, type[Flip] | type[Shift] | type[Cutout]] = {"flip": Flip, "shift": Shift, "cutout": Cutout}


@dataclass(frozen=True)
class Augmenter:
    """Applies the changes one after another; each draws numbers of its own."""

    changes: tuple[Flip | Shift | Cutout, ...]
    seed: int

    def apply(self, images: Images, epoch: int, examples: NDArray[np.int64]) -> Images:
        """Change uint8 images [batch, height, width, channels] of the given examples in the given epoch."""
        first = 0
        for change in self.changes:

            def numbers(draw: int, each_epoch: bool, base: int = first) -> Uniforms:
                return uniforms(self.seed, epoch if each_epoch else 0, examples, base + draw)

            images = change.apply(images, epoch, numbers)
            first += change.draws
        return images


def make_augmenter(entries: tuple[Named, ...], seed: int) -> Augmenter | None:
    """The changes that a spec's `augment` asks for, or None; raise InvalidInput."""
    changes = []
    for entry in entries:
        kind = KINDS.get(entry.name)
        if kind is None:
            raise InvalidInput(f"augment has the unknown change {entry.name[:60]!r}: use {' or '.join(sorted(KINDS))}.")
        try:
            changes.append(kind(**entry.arguments))
        except TypeError:
            raise InvalidInput(
                f"augment: {entry.name} does not take {', '.join(sorted(entry.arguments))}; it takes {', '.join(kind.__dataclass_fields__)}."
            ) from None
    return Augmenter(tuple(changes), seed) if changes else None
