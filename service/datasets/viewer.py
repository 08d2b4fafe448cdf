"""The pictures of an import, decoded alike, with what was done for them: counted, and said once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.datasets.choices import other_ground
from service.datasets.pictures import Refused, decode, is_grey, open_picture, room_for
from service.errors import BadData

DEFAULT_GROUND = "white"
"""The background on which viewers and browsers show pictures, grey ones too."""
Made = TypeVar("Made")


class Viewer:
    """Decodes pictures for `grey` (one channel) or colour (three) over `ground`, and counts by kind what it did for them."""

    def __init__(self, grey: bool, ground: str, chosen_by: str = "default") -> None:
        """`chosen_by`: `default`, `user`, or `pictures` where nothing of them is seen on the default."""
        self.grey = grey
        self.ground = ground
        self._chosen_by = chosen_by
        self._count = 0
        self._done: dict[str, tuple[int, str]] = {}

    def fill(
        self,
        sources: Sequence[tuple[str, Path | bytes]],
        packed: int,
        of: str,
        progress: Callable[[int], None] = lambda _: None,
        like: tuple[str, tuple[int, ...]] | None = None,
    ) -> NDArray[np.uint8]:
        """Pictures by the names that messages call them: uint8 [pictures, height, width, 1 or 3], all of one size.

        `packed`: the bytes of all files, which are `of` the whole. `like`: another picture's name and shape that these must have.
        Raise BadData with the name of a picture that is damaged, too large or of another size.
        """
        images: NDArray[np.uint8] | None = None
        for number, (name, source) in enumerate(sources):
            pixels = self._take(name, source)
            like = like or (name, pixels.shape)
            if pixels.shape != like[1]:
                raise BadData(
                    f"{name} has {_size(pixels.shape)} pixels, but {like[0]} has {_size(like[1])}: make all pictures one size."
                )
            if images is None:
                images = room_for(len(sources), pixels.shape, packed, of)
            images[number] = pixels
            progress(len(source) if isinstance(source, bytes) else source.stat().st_size)
        return np.empty((0, *(like[1] if like else (1, 1, 1))), np.uint8) if images is None else images

    def _take(self, name: str, source: Path | bytes) -> NDArray[np.uint8]:
        try:
            with open_picture(source) as image:
                coloured = not self.grey and is_grey(image)
                picture = decode(image, self.grey, self.ground)
        except Refused as error:
            raise BadData(f"{name}: {error}: replace or remove it.") from error
        self._count += 1
        kinds = ("turned", "transparent", "empty", "hidden", "frames", "deep", "cmyk")
        for kind in (*(kind for kind in kinds if getattr(picture, kind)), *(("coloured",) if coloured else ())):
            count, first = self._done.get(kind, (0, name))
            self._done[kind] = (count + 1, first)
        return picture.pixels

    def _of(self, kind: str) -> int:
        return self._done.get(kind, (0, ""))[0]

    @property
    def sees_nothing(self) -> bool:
        """Whether all that the transparent pictures show has the ground's colour."""
        return 0 < self._of("hidden") == self._of("transparent") - self._of("empty")

    def notes(self) -> list[str]:
        """What was done, a sentence each."""
        sentences = {
            "turned": "{n} turned as the EXIF orientation says",
            "transparent": f"{{n}} transparent and laid over {self.ground}{self._why()}",
            "empty": f"{{n}} wholly transparent, so that all is {self.ground}",
            "hidden": f"{{n}} of one colour now, for what they show is {self.ground} too: see --ground",
            "frames": "{n} taken from a file of several frames or pages: the first",
            "deep": "{n} of 16 bits a channel, of which the upper 8 are taken",
            "cmyk": "{n} of inks (CMYK) and made RGB, without a colour profile",
            "coloured": "{n} grey and made a colour picture, for others have colours",
        }
        return [self._sentence(kind, sentence) for kind, sentence in sentences.items() if self._of(kind)]

    def _why(self) -> str:
        if self._chosen_by == "pictures":
            return f", for on {DEFAULT_GROUND} nothing of them is seen (--ground {DEFAULT_GROUND} if that is intended)"
        return f" (--ground {other_ground(self.ground)} for the other)" if self._chosen_by == "default" else ""

    def _sentence(self, kind: str, sentence: str) -> str:
        count, first = self._done[kind]
        of = f"{count} of {self._count} pictures {'is' if count == 1 else 'are'}"
        return f"{sentence.format(n=of)}; {'it is' if count == 1 else 'the first is'} {first}."


def on_a_ground(grey: bool, ground: str | None, read: Callable[[Viewer], Made]) -> tuple[Made, Viewer]:
    """What `read` makes with a viewer, on the ground that was chosen.

    Without a choice that is white; where nothing of any transparent picture is seen on it, as with white strokes, black.
    """
    viewer = Viewer(grey, ground or DEFAULT_GROUND, "default" if ground is None else "user")
    made: Any = read(viewer)
    if ground is None and viewer.sees_nothing:
        made = None
        viewer = Viewer(grey, other_ground(DEFAULT_GROUND), "pictures")
        made = read(viewer)
    return made, viewer


def all_grey(sources: Sequence[tuple[str, Path | bytes]]) -> bool:
    """Whether no picture has colours, by their headers; raise BadData with the name of one that cannot be read."""
    for name, source in sources:
        try:
            with open_picture(source) as image:
                if not is_grey(image):
                    return False
        except Refused as error:
            raise BadData(f"{name}: {error}: replace or remove it.") from error
    return True


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
