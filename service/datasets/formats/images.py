"""Folders of pictures: `train/CLASS/*.png` and `test/CLASS/*.png`, colour or grey; PNG, JPEG, WebP, BMP, TIFF and GIF."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from service.datasets.choices import NONE, Choices
from service.datasets.picture_folders import find_pictures, shown
from service.datasets.raw import RawDataset, RawSplit
from service.datasets.viewer import Viewer, all_grey, on_a_ground

takes = ("ground",)


def read(source: Path, progress: Callable[[int], None], choices: Choices = NONE) -> RawDataset:
    """Read all pictures below `train`, `test` and, where there is one, `validation`; the classes are the names of the folders, sorted.

    All pictures must have one size, as a viewer shows them. They become grey (one channel) if all are grey, else three channels.
    """
    found = find_pictures(source)
    sources: dict[str, list[tuple[str, Path | bytes]]] = {
        split: [(shown(path, source), path) for path, _ in files] for split, files in found.files.items()
    }
    grey = all(all_grey(each) for each in sources.values())
    packed = sum(path.stat().st_size for files in found.files.values() for path, _ in files)

    def splits(viewer: Viewer) -> dict[str, RawSplit]:
        made: dict[str, RawSplit] = {}
        first = None
        for split, files in found.files.items():
            images = viewer.fill(sources[split], packed, split, progress, first)
            first = first or (sources[split][0][0], images.shape[1:])
            labels = np.array([label for _, label in files], np.int64)
            made[split] = RawSplit({"image": images}, labels, str(source / split))
        return made

    made, viewer = on_a_ground(grey, choices.ground, splits)
    return RawDataset(made, found.classes, notes=[*found.notes, *viewer.notes()], ground=viewer.ground)
