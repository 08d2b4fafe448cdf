"""Checkpoints in the store: safetensors files, their checksums in a manifest that is written last."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.artifacts.node_share import NodeShare, read_verified
from jobs.artifacts.tensors import Tensors, TensorStream, tensors_in
from jobs.liveness import tick
from service.errors import Damaged, InfrastructureFailure, NotFound
from service.records.checkpoint_index import MANIFEST, CheckpointIndex, Kept
from service.records.checkpoint_schemas import CheckpointManifest, FileEntry
from service.records.metrics import Segment, read_sealed
from service.records.run_record import Document, RunRecord, from_bytes, rows_from_bytes, rows_to_bytes, to_bytes
from service.records.stored_document import fitted
from service.specs.parts import CheckpointPolicy
from service.storage.base import Store

HISTORY = "history.jsonl"
LONGEST_WAIT = 900.0
"""Seconds for which a wait for earlier checkpoints is no stall (assumed: longer than a store may be away)."""


@dataclass(frozen=True)
class Snapshot:
    """All that a run needs to resume from `step` as if it had not stopped; every array is a copy in host memory."""

    step: int
    epoch: int
    model: Tensors
    optimizer: Tensors
    history: list[Document]
    position: Document
    """JSON values: sums since the last row of metrics, callbacks' state."""
    callbacks: Tensors = field(default_factory=dict)
    """Large arrays of the callbacks' state."""
    space: Tensors = field(default_factory=dict)
    """Variables of the optimizer that are not the model's: targets."""
    averaged: Tensors = field(default_factory=dict)
    """The model's variables with the averages of its weights, where the optimizer keeps any: these are evaluated, and saved as the result."""
    sealed: tuple[Segment, ...] = ()
    """The sealed parts that hold the first rows of `history`, of a checkpoint that was loaded."""
    score: float | None = None
    """How good the run was at this step, lower is better; None where it was not evaluated."""

    @property
    def result(self) -> Tensors:
        """The model's variables with which a run that ends here is saved."""
        return self.averaged or self.model


@dataclass
class CheckpointStore:
    """Saves, verifies, restores and prunes the checkpoints of one run.

    `label` is that of the attempt that saves, part of the keys of all that it writes; a reader needs none.
    `fence` raises LeaseLost when this attempt no longer owns the run; it is asked before each manifest is written.
    """

    record: RunRecord
    policy: CheckpointPolicy
    label: str = ""
    fence: Callable[[], None] = lambda: None
    sealed: Callable[[int], Sequence[Segment]] = lambda rows: ()
    """Given the number of rows of metrics, returns the sealed parts that hold the first ones: they are not saved once more."""
    share: NodeShare | None = None
    """Lets the workers of a node read a file once; without it each reads for itself."""
    _index: CheckpointIndex = field(init=False)

    def __post_init__(self) -> None:
        record = self.record
        self._index = CheckpointIndex(record.store, record.paths, record.nonce, self.label, record.check_claim)

    @property
    def store(self) -> Store:
        """The store that holds them."""
        return self.record.store

    def save(self, snapshot: Snapshot, *, drop_later: bool = False) -> None:
        """Write a checkpoint, manifest last, and note it in the index; then delete those that the policy does not keep.

        `drop_later`: those of later steps go too. Raise LeaseLost, having taken nothing away, when another attempt has the index.
        """
        before = self._index.kept()
        folder = self._index.new_folder(snapshot.step)
        self._write(self._path(folder), snapshot)
        others = [each for each in before if each.step != snapshot.step and not (drop_later and each.step > snapshot.step)]
        kept = self._retained([*others, Kept(snapshot.step, folder, snapshot.score)])
        self._index.replace(kept)
        self._delete(each.folder for each in before if each not in kept)

    def _write(self, path: str, snapshot: Snapshot) -> None:
        sealed = list(self.sealed(len(snapshot.history)))
        rows = snapshot.history[sum(segment.rows for segment in sealed) :]
        streams = {
            "model.safetensors": TensorStream(snapshot.model),
            "optimizer.safetensors": TensorStream(snapshot.optimizer),
            **({"space.safetensors": TensorStream(snapshot.space)} if snapshot.space else {}),
            **({"callbacks.safetensors": TensorStream(snapshot.callbacks)} if snapshot.callbacks else {}),
            **({"averaged.safetensors": TensorStream(snapshot.averaged)} if snapshot.averaged else {}),
        }
        files: dict[str, FileEntry] = {}
        for name, stream in streams.items():
            files[name] = FileEntry(bytes=stream.size, sha256=self.store.write_stream(path + name, stream, stream.size))
        history = rows_to_bytes(rows)
        self.store.write(path + HISTORY, history)
        files[HISTORY] = FileEntry(bytes=len(history), sha256=hashlib.sha256(history).hexdigest())
        manifest = CheckpointManifest(
            step=snapshot.step,
            epoch=snapshot.epoch,
            score=snapshot.score,
            saved=time.time(),
            files=files,
            history=tuple(sealed),
            position=snapshot.position,
        ).document()
        self.fence()
        self.store.write(path + MANIFEST, to_bytes({**manifest, "sha256": _digest(manifest)}))

    def load_newest(self, damaged: Callable[[int, str], None]) -> Snapshot | None:
        """The newest checkpoint whose checksums hold, or None; `damaged(step, why)` is called for each that is not."""
        for kept in reversed(self._index.found()):
            try:
                return self._load(kept)
            except (Damaged, NotFound) as error:
                damaged(kept.step, str(error))
        return None

    def load(self, step: int) -> Snapshot:
        """The checkpoint at `step`; raise Damaged when a checksum differs, NotFound when it or a file of it is missing."""
        for kept in self._index.found():
            if kept.step == step:
                return self._load(kept)
        raise NotFound(f"The run {self.record.run_id!r} has no checkpoint at step {step}.")

    def _load(self, kept: Kept) -> Snapshot:
        path = self._path(kept.folder)
        manifest = self._manifest(kept)
        contents = {name: self._verified(path + name, entry) for name, entry in manifest.files.items()}
        return Snapshot(
            step=manifest.step,
            epoch=manifest.epoch,
            model=tensors_in(contents["model.safetensors"]),
            optimizer=tensors_in(contents["optimizer.safetensors"]),
            # A run of the first format has all of its rows in each checkpoint.
            history=[
                *read_sealed(self.store, self.record.paths, manifest.history),
                *rows_from_bytes(contents[HISTORY].tobytes()),
            ],
            sealed=manifest.history,
            position=manifest.position,
            space=tensors_in(contents["space.safetensors"]) if "space.safetensors" in contents else {},
            callbacks=tensors_in(contents["callbacks.safetensors"]) if "callbacks.safetensors" in contents else {},
            averaged=tensors_in(contents["averaged.safetensors"]) if "averaged.safetensors" in contents else {},
            score=manifest.score,
        )

    def best_kept(self) -> int | None:
        """The step of the best checkpoint in the store, the earlier of two equals; None when none was evaluated."""
        scores = ((self._manifest(kept).score, kept.step) for kept in self._index.found())
        return min(((score, step) for score, step in scores if score is not None), default=(None, None))[1]

    def adopt(self, step: int) -> None:
        """Begin to resume from `step`: take the index, drop later checkpoints, damaged ones and whatever a crash left.

        Raise LeaseLost, having taken nothing away, when a later attempt has the index.
        """
        self.fence()
        self._index.take(lambda found: [intact for kept in found if kept.step <= step and (intact := self._intact(kept))])
        self._delete(self._index.left_over())

    def _intact(self, kept: Kept) -> Kept | None:
        """Return it with the score in its manifest; None where the manifest is damaged."""
        try:
            return replace(kept, score=self._manifest(kept).score)
        except (Damaged, NotFound):
            return None

    def _retained(self, kept: list[Kept]) -> list[Kept]:
        newest = sorted(kept, key=lambda each: each.step)[-self.policy.keep_last :]
        scored = sorted((each.score, each.step, each) for each in kept if each.score is not None)
        best = [each for *_, each in scored[: self.policy.keep_best]]
        return [each for each in kept if each in newest or each in best]

    def _delete(self, folders: Iterable[str]) -> None:
        for folder in folders:
            # The manifest goes first, so that a half-deleted checkpoint is none.
            self.store.delete(self._path(folder) + MANIFEST)
            self.store.delete_prefix(self._path(folder))

    def _path(self, folder: str) -> str:
        return self.record.paths.checkpoint(folder)

    def _manifest(self, kept: Kept) -> CheckpointManifest:
        key = self._path(kept.folder) + MANIFEST
        document = from_bytes(self.store.read(key), key)
        manifest = {name: value for name, value in document.items() if name not in ("format", "sha256")}
        if document.get("sha256") != _digest(manifest) or manifest.get("step") != kept.step:
            raise Damaged(f"The checkpoint's manifest {key} is not as Delayline wrote it.")
        return fitted(CheckpointManifest, document, key)

    def _verified(self, key: str, entry: FileEntry) -> NDArray[np.uint8]:
        if self.share is not None:
            return self.share.read(self.store, key, entry.bytes, entry.sha256)
        return read_verified(self.store, key, entry.bytes, entry.sha256)


class CheckpointWriter:
    """Writes snapshots in a thread, one at a time: the step loop waits for the one before, and then for the copy."""

    def __init__(self, checkpoints: CheckpointStore, saved: Callable[[Snapshot, float], None]) -> None:
        self._checkpoints = checkpoints
        self._saved = saved
        self._changed = threading.Condition()
        self._waiting: Snapshot | None = None
        self._busy = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def submit(self, take: Callable[[], Snapshot]) -> None:
        """Once the snapshot before is written and freed, take one and write it in the thread; raise the error that an earlier one met."""
        began = time.monotonic()
        with self._changed:
            while not self._changed.wait_for(lambda: not self._busy or self._error is not None, 0.5):
                if time.monotonic() - began < LONGEST_WAIT:
                    tick()
            self._raise()
            self._busy = True
        try:
            snapshot = take()
        except BaseException:
            with self._changed:
                self._busy = False
            raise
        with self._changed:
            self._waiting = snapshot
            self._changed.notify_all()

    def close(self, limit: float) -> None:
        """Wait until all is written, at most `limit` seconds; raise the error that one met."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(limit)
        self._raise()
        if self._thread.is_alive():
            raise InfrastructureFailure(
                f"The last checkpoint was not written within {limit:.0f} s; see whether the store answers."
            )

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or (self._closed and not self._busy))
                if self._waiting is None:
                    return
            try:
                self._write()
            except BaseException as error:
                self._error = error
            with self._changed:
                self._busy = False
                self._changed.notify_all()
            if self._error is not None:
                return

    def _write(self) -> None:
        # Nothing but this call holds the snapshot: its memory is free once it returns.
        snapshot, self._waiting = self._waiting, None
        assert snapshot is not None
        began = time.monotonic()
        self._checkpoints.save(snapshot)
        self._saved(snapshot, time.monotonic() - began)


def _digest(manifest: Document) -> str:
    return hashlib.sha256(json.dumps(jsonable(manifest), sort_keys=True).encode()).hexdigest()


def jsonable(value: Any) -> Any:
    """`value` as JSON gives it back, so that a resumed run holds the same numbers as one that never stopped."""
    return json.loads(json.dumps(value))
