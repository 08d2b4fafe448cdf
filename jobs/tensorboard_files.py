"""TensorBoard's event files of a run: written locally, copied to the store with each checkpoint."""

import contextlib
import tempfile
from pathlib import Path

from tensorboard.summary import Writer

from service.errors import StoreError
from service.storage.records import Document, RunRecord

_NO_SCALARS = {"epoch", "step", "time"}


class TensorBoardFiles:
    """One file an attempt holds the whole run: it begins with the rows of the checkpoint that the attempt goes on from."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._folder = tempfile.TemporaryDirectory(prefix="delayline-tensorboard-")
        self._writer = Writer(self._folder.name)

    def restart(self, history: list[Document]) -> None:
        """Begin with these rows and drop the files of earlier attempts, whose later rows did not last."""
        self._record.store.delete_prefix(self._record.paths.tensorboard)
        for row in history:
            self.add(row)

    def add(self, row: Document) -> None:
        """Write a row of metrics: `val_loss` becomes `validation/loss`, others `train/…`."""
        for name, value in row.items():
            if name not in _NO_SCALARS:
                group, _, rest = name.partition("_")
                tag = f"validation/{rest}" if group == "val" else f"test/{rest}" if group == "test" else f"train/{name}"
                self._writer.add_scalar(tag, value, row["step"])

    def ship(self) -> None:
        """Copy the file to the store; a store that refuses costs the curves, not the run."""
        self._writer.flush()
        self._upload()

    def _upload(self) -> None:
        with contextlib.suppress(StoreError):
            for file in Path(self._folder.name).iterdir():
                self._record.store.upload(file, self._record.paths.tensorboard + file.name)

    def close(self, metrics: Document, step: int) -> None:
        """Write the test's figures and copy the file for the last time."""
        self.add({**{name: value for name, value in metrics.items() if name.startswith("test_")}, "step": step})
        self._writer.close()
        self._upload()
        self._folder.cleanup()
