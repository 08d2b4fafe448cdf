"""TensorBoard's event files of a run: curves, graph and histograms, written locally, copied to the store with each checkpoint."""

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.histogram.metadata import PLUGIN_NAME as HISTOGRAMS
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from jobs.artifacts.tensors import Tensors
from service.errors import StoreError
from service.records.run_record import Document, RunRecord
from service.scratch import ScratchFolder
from service.storage.paths import number_of

_NO_SCALARS = {"epoch", "step", "time"}
FILE_BYTES = 256 * 1024
"""A file that has grown so long is copied once more and followed by another one: so that the copy with each checkpoint stays small (assumed)."""
HISTOGRAM_STEPS = 60
"""At most about so many steps of a run have histograms (assumed: more than a person looks at)."""
HISTOGRAM_VARIABLES = 40
HISTOGRAM_VALUES = 8192
"""Of a larger variable so many values stand for all: they give 30 buckets (assumed)."""
GRAPH_BYTES = 8 * 1024**2


class TensorBoardFiles:
    """The files of an attempt hold the whole run: they begin with what the checkpoint that the attempt resumes from had.

    Rows come from the training loop's thread, weights from that of the checkpoints: TensorBoard's writer queues both.
    """

    def __init__(self, record: RunRecord, attempt: int) -> None:
        self._record = record
        self._attempt = attempt
        self._root = record.paths.tensorboard(record.label(attempt))
        self._folder = ScratchFolder("tensorboard")
        self._writer = EventFileWriter(self._folder.name)
        self._exchange = threading.Lock()
        """Held while an event is handed to the writer, and while another file takes its place."""
        self._closed = False
        self._shipped: dict[str, int] = {}
        """Bytes of each file that are in the store."""
        self._last_histograms: int | None = None

    def restart(self, history: list[Document], step: int) -> None:
        """Begin with these rows and the histograms up to `step`; the files of earlier attempts, whose later rows did not last, go."""
        kept = self._earlier_histograms(step)
        for event in kept:
            self._add(event)
            self._last_histograms = event.step
        for row in history:
            self.add(row)
        # Only what these files hold may go.
        if not kept or self.ship():
            for key in self._earlier_files():
                self._record.store.delete(key)

    def _earlier_files(self) -> list[str]:
        """Return the files of the attempts before this one, none of later ones."""
        root, nonce = self._record.paths.tensorboard_root, self._record.nonce
        keys = [info.key for info in self._record.store.objects(root)]
        folders = {key: key[len(root) :].rpartition("/")[0] for key in keys}
        numbers = {key: number_of(folder, nonce) if folder else 0 for key, folder in folders.items()}
        return [key for key, number in numbers.items() if number is not None and number < self._attempt]

    def _earlier_histograms(self, step: int) -> list[Any]:
        """The histograms of earlier attempts up to `step`, each once, by step; what cannot be read is left out."""
        found: dict[tuple[int, str], Any] = {}
        with ScratchFolder("tensorboard") as folder:
            for number, key in enumerate(self._earlier_files()):
                path = Path(folder, str(number))
                # A file that was cut off or damaged costs its histograms, not the attempt.
                with contextlib.suppress(Exception):
                    self._record.store.download(key, path)
                    for event in LegacyEventFileLoader(str(path)).Load():
                        for value in event.summary.value:
                            if value.metadata.plugin_data.plugin_name == HISTOGRAMS and event.step <= step:
                                found.setdefault((event.step, value.tag), event)
        return [found[key] for key in sorted(found)]

    def add(self, row: Document) -> None:
        """Write a row of metrics: `val_loss` becomes `validation/loss`, others `train/…`."""
        for name, value in row.items():
            if name not in _NO_SCALARS:
                group, _, rest = name.partition("_")
                tag = f"validation/{rest}" if group == "val" else f"test/{rest}" if group == "test" else f"train/{name}"
                self._add_summary(scalar_pb(tag, value), int(row["step"]), row.get("time"))

    def add_graph(self, graph: bytes) -> None:
        """Write the model's graph, a serialised GraphDef; one that is too large for a file that is copied often is left out."""
        if len(graph) <= GRAPH_BYTES:
            self._add(Event(wall_time=time.time(), graph_def=graph))

    def add_weights(self, step: int, tensors: Tensors, steps: int) -> None:
        """Write histograms of the model's weights at a checkpoint of a run of `steps` steps, where they are due."""
        last = self._last_histograms
        if last is not None and (step <= last or (step - last < steps / HISTOGRAM_STEPS and step < steps)):
            return
        named = [(key.partition(" ")[2], array) for key, array in sorted(tensors.items()) if key[:5].isdigit()]
        weights = [(name, array) for name, array in named if array.size > 1 and array.dtype.kind not in "iub"]
        for name, array in weights[:HISTOGRAM_VARIABLES]:
            flat = array.reshape(-1)
            values = flat[:: -(-flat.size // HISTOGRAM_VALUES)].astype(np.float64)
            self._add_summary(histogram_pb(f"weights/{name}", values[np.isfinite(values)]), step, None)
        self._last_histograms = step

    def _add_summary(self, summary: Any, step: int, when: float | None) -> None:
        self._add(Event(wall_time=when or time.time(), step=step, summary=summary))

    def _add(self, event: Any) -> None:
        with self._exchange:
            if not self._closed:
                self._writer.add_event(event)

    def ship(self) -> bool:
        """Copy what is new to the store, and say whether all is there; a store that refuses loses the curves, not the run."""
        with self._exchange:
            if self._closed:
                return False
            self._writer.flush()
            newest = max(Path(self._folder.name).iterdir(), key=lambda file: file.stat().st_mtime_ns)
            if newest.stat().st_size >= FILE_BYTES:
                # The name of the next one follows this one's, as TensorBoard reads them.
                self._writer.close()
                self._writer = EventFileWriter(self._folder.name)
        return self._upload()

    def _upload(self) -> bool:
        try:
            for file in sorted(Path(self._folder.name).iterdir()):
                size = file.stat().st_size
                if self._shipped.get(file.name) != size:
                    self._record.store.upload(file, self._root + file.name)
                    self._shipped[file.name] = size
        except StoreError:
            return False
        return True

    def finish(self, metrics: Document, step: int) -> None:
        """Write the test's figures and copy what is new for the last time."""
        self.add({**{name: value for name, value in metrics.items() if name.startswith("test_")}, "step": step})
        self.ship()

    def close(self) -> None:
        """End the writer and delete its folder; what was not copied by then is lost."""
        with self._exchange:
            if not self._closed:
                self._closed = True
                self._writer.close()
                self._folder.cleanup()
