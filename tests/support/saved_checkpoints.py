"""Small snapshots, saved in a store and damaged there."""

from typing import Any

import numpy as np

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from service.records.checkpoint_index import MANIFEST
from service.records.run_record import RunRecord
from service.specs.parts import CheckpointPolicy
from service.storage.base import Store
from service.storage.paths import RunPaths

FILES = ("model.safetensors", "optimizer.safetensors", "history.jsonl", MANIFEST)
PATHS = RunPaths("a-run")
KEEP_ALL = CheckpointPolicy(every_steps=1, keep_last=1000)


def checkpoints(store: Store, policy: CheckpointPolicy = KEEP_ALL, label: str = "0001", **more: Any) -> CheckpointStore:
    return CheckpointStore(RunRecord(store, "a-run"), policy, label, **more)


def path_of(store: Store, step: int) -> str:
    (name,) = (name for name in store.list_folders(PATHS.checkpoints) if name.startswith(f"{step:010d}"))
    return PATHS.checkpoint(name)


def snapshot(step: int, score: float | None = None, **values: Any) -> Snapshot:
    made = {
        "epoch": 1,
        "model": {"00000 dense/kernel": np.full((2, 3), step, np.float32), "00001 dense/bias": np.zeros(3, np.float32)},
        "optimizer": {"00000 iteration": np.array(step)},
        "history": [{"step": step, "loss": 0.5}],
        "position": {"row_sums": [0.1, 2.0], "callbacks": []},
        **values,
    }
    return Snapshot(step=step, score=score, **made)


def steps_there(store: Store) -> list[int]:
    return [int(name.partition("-")[0]) for name in store.list_folders(PATHS.checkpoints)]


def never(step: int, why: str) -> None:
    raise AssertionError(f"{step} is damaged: {why}")


def flip(store: Store, step: int, name: str) -> None:
    key = path_of(store, step) + name
    data = bytearray(store.read(key))
    data[len(data) // 2] ^= 0xFF
    store.write(key, bytes(data))
