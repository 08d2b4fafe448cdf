"""Checkpoints in the store: safetensors files, their checksums in a manifest that is written last."""

import hashlib
import json
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jobs.tensors import Tensors, tensors_from_bytes, tensors_to_bytes
from service.errors import Damaged, InfrastructureFailure, NotFound
from service.run_paths import RunPaths
from service.specs import CheckpointPolicy
from service.storage.base import Store
from service.storage.records import Document, from_bytes, rows_from_bytes, rows_to_bytes, to_bytes

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Snapshot:
    """All that a run needs to go on from `step` as if it had not stopped; every array is a copy in host memory."""

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
    score: float | None = None
    """How good the run was at this step, lower is better; None where it was not evaluated."""


@dataclass
class CheckpointStore:
    """Saves, verifies, restores and prunes the checkpoints of one run.

    `fence` raises LeaseLost when this attempt no longer owns the run; it is asked before each manifest is written.
    """

    store: Store
    paths: RunPaths
    policy: CheckpointPolicy
    fence: Callable[[], None] = lambda: None
    _scores: dict[int, float | None] = field(default_factory=dict)

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint, manifest last, then delete those that the policy does not keep."""
        folder = self.paths.checkpoint(snapshot.step)
        self.store.delete(folder + MANIFEST)
        files = {}
        contents = {
            "model.safetensors": tensors_to_bytes(snapshot.model),
            "optimizer.safetensors": tensors_to_bytes(snapshot.optimizer),
            "history.jsonl": rows_to_bytes(snapshot.history),
            **({"space.safetensors": tensors_to_bytes(snapshot.space)} if snapshot.space else {}),
            **({"callbacks.safetensors": tensors_to_bytes(snapshot.callbacks)} if snapshot.callbacks else {}),
        }
        for name, data in contents.items():
            self.store.write(folder + name, data)
            files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest = {
            "step": snapshot.step,
            "epoch": snapshot.epoch,
            "score": snapshot.score,
            "saved": time.time(),
            "files": files,
            "position": snapshot.position,
        }
        self.fence()
        self.store.write(folder + MANIFEST, to_bytes({**manifest, "sha256": _digest(manifest)}))
        self._scores[snapshot.step] = snapshot.score
        self._retain()

    def load_newest(self, damaged: Callable[[int, str], None]) -> Snapshot | None:
        """The newest checkpoint whose checksums hold, or None; `damaged(step, why)` is called for each that is not."""
        for step in sorted(self._complete(), reverse=True):
            try:
                return self.load(step)
            except (Damaged, NotFound) as error:
                damaged(step, str(error))
        return None

    def load(self, step: int) -> Snapshot:
        """The checkpoint at `step`; raise Damaged when a checksum differs, NotFound when a file is missing."""
        folder = self.paths.checkpoint(step)
        manifest = self._manifest(step)
        contents = {name: self._verified(folder + name, entry) for name, entry in manifest["files"].items()}
        return Snapshot(
            step=int(manifest["step"]),
            epoch=int(manifest["epoch"]),
            model=tensors_from_bytes(contents["model.safetensors"]),
            optimizer=tensors_from_bytes(contents["optimizer.safetensors"]),
            history=rows_from_bytes(contents["history.jsonl"]),
            position=manifest["position"],
            space=tensors_from_bytes(contents["space.safetensors"]) if "space.safetensors" in contents else {},
            callbacks=tensors_from_bytes(contents["callbacks.safetensors"]) if "callbacks.safetensors" in contents else {},
            score=manifest["score"],
        )

    def best_kept(self) -> int | None:
        """The step of the best checkpoint in the store, the earlier of two equals; None when none was evaluated."""
        scores = ((self._manifest(step)["score"], step) for step in self._complete())
        return min(((score, step) for score, step in scores if score is not None), default=(None, None))[1]

    def adopt(self, step: int) -> None:
        """Begin to go on from `step`: drop later checkpoints and whatever a crash left without a manifest; learn the scores."""
        complete = self._complete()
        for name in self.store.list_folders(self.paths.checkpoints):
            if not name.isdigit() or int(name) > step or int(name) not in complete:
                self.store.delete_prefix(f"{self.paths.checkpoints}{name}/")
        for kept in complete:
            if kept <= step:
                try:
                    self._scores[kept] = self._manifest(kept)["score"]
                except (Damaged, NotFound):
                    self.store.delete_prefix(self.paths.checkpoint(kept))

    def _retain(self) -> None:
        newest = sorted(self._scores)[-self.policy.keep_last :]
        scored = sorted((score, step) for step, score in self._scores.items() if score is not None)
        kept = {*newest, *(step for _, step in scored[: self.policy.keep_best])}
        for step in set(self._scores) - kept:
            folder = self.paths.checkpoint(step)
            # The manifest goes first, so that a half-deleted checkpoint is none.
            self.store.delete(folder + MANIFEST)
            self.store.delete_prefix(folder)
            del self._scores[step]

    def _complete(self) -> set[int]:
        keys = (info.key.split("/") for info in self.store.list(self.paths.checkpoints))
        return {int(parts[-2]) for parts in keys if parts[-1] == MANIFEST and parts[-2].isdigit()}

    def _manifest(self, step: int) -> dict[str, Any]:
        key = self.paths.checkpoint(step) + MANIFEST
        document = from_bytes(self.store.read(key), key)
        manifest = {name: value for name, value in document.items() if name not in ("format", "sha256")}
        if document.get("sha256") != _digest(manifest) or manifest.get("step") != step:
            raise Damaged(f"The checkpoint's manifest {key} is not as Delayline wrote it.")
        return manifest

    def _verified(self, key: str, entry: dict[str, Any]) -> bytes:
        data = self.store.read(key)
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise Damaged(f"The checkpoint's file {key} differs from the checksum in its manifest.")
        return data


class CheckpointWriter:
    """Writes snapshots in a thread: the step loop waits only while two of them are on their way already."""

    def __init__(self, checkpoints: CheckpointStore, saved: Callable[[Snapshot, float], None]) -> None:
        self._checkpoints = checkpoints
        self._saved = saved
        self._queue: queue.Queue[Snapshot | None] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def submit(self, snapshot: Snapshot) -> None:
        """Hand a snapshot over; raise the error that an earlier one met."""
        self._put(snapshot, math.inf)

    def close(self, limit: float) -> None:
        """Wait until all is written, at most `limit` seconds; raise the error that one met."""
        deadline = time.monotonic() + limit
        if self._put(None, deadline):
            self._thread.join(max(0.0, deadline - time.monotonic()))
        self._raise()
        if self._thread.is_alive():
            raise InfrastructureFailure(
                f"The last checkpoint was not written within {limit:.0f} s; see whether the store answers."
            )

    def _put(self, item: Snapshot | None, deadline: float) -> bool:
        while time.monotonic() < deadline:
            self._raise()
            try:
                self._queue.put(item, timeout=min(0.5, deadline - time.monotonic()))
                return True
            except (queue.Full, ValueError):
                continue
        return False

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (snapshot := self._queue.get()) is not None:
            try:
                began = time.monotonic()
                self._checkpoints.save(snapshot)
                self._saved(snapshot, time.monotonic() - began)
            except BaseException as error:
                self._error = error
                return


def _digest(manifest: Document) -> str:
    return hashlib.sha256(json.dumps(jsonable(manifest), sort_keys=True).encode()).hexdigest()


def jsonable(value: Any) -> Any:
    """`value` as JSON gives it back, so that a resumed run holds the same numbers as one that never stopped."""
    return json.loads(json.dumps(value))
