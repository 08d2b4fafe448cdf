"""Runs in a local store as workers and drivers leave them, without training any."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument, StateDocument
from service.records.submission_schemas import Origin
from service.specs.train import TrainSpec
from service.storage.json_documents import rows_to_bytes, to_bytes
from service.storage.local import LocalStore

START = 1_790_000_000.0
CLASSES = [*"012345678", "a <b>class</b> & $more$"]
WriteRun = Callable[..., RunRecord]
LAYER = {
    "name": "conv2d",
    "kind": "Conv2D",
    "depth": 0,
    "output": "28×28×32",
    "how": "28×28×1, 32 filters 5×5, same padding → 28×28×32",
    "parameters": 832,
    "trained": 832,
    "formula": "(5·5·1 + 1)·32 = 832",
}
Document = dict[str, Any]


def history(epochs: int = 10, per_epoch: int = 20, over_fits: bool = True) -> list[Document]:
    """Rows of every tenth step; the validation loss rises from the fourth epoch on if the run over-fits."""
    rows = []
    for step in range(10, epochs * per_epoch + 1, 10):
        epoch = -(-step // per_epoch)
        row = {
            "epoch": epoch,
            "step": step,
            "loss": 2.3 * 0.8**epoch,
            "accuracy": 1 - 0.9 * 0.7**epoch,
            "learning_rate": 0.001,
            "examples_per_second": 5000.0 + step,
            "time": START + 10 + step / 10,
        }
        if step % per_epoch == 0:
            learnt = min(epoch, 4) if over_fits else epoch
            row |= {"val_loss": 2.3 * 0.8**learnt + 0.05 * (epoch - learnt), "val_accuracy": 1 - 0.95 * 0.75**learnt}
        rows.append(row)
    return rows


def attempt(number: int, begin: float, end: float | None, reason: str | None) -> Document:
    members = [{"rank": rank, "host": "node-<1>", "pid": 100 + rank} for rank in range(2)]
    finished = None if end is None else START + end
    return {"number": number, "workers": members, "started": START + begin, "finished": finished, "reason": reason}


def event(time: float, number: int, name: str, message: str) -> Document:
    return {"time": START + time, "attempt": number, "event": name, "message": message}


EVENTS = [
    event(0.1, 1, "attempt", "attempt 1 starts 2 workers"),
    event(9, 1, "training", "training begins at step 0 of 200"),
    *(
        {**event(10 + 3 * index, 1, "checkpoint", f"checkpoint at step {20 * index} saved"), "step": 20 * index}
        for index in range(8)
    ),
    event(38, 1, "attempt failed", "attempt 1 failed: A peer was lost: <script>alert(1)</script>"),
    event(41, 2, "attempt", "attempt 2 starts 2 workers"),
    event(50, 2, "training", "training begins at step 140 of 200"),
]


def matrix_of(classes: list[str], truth: Any, guess: Any) -> Document:
    """How runs up to November 2026 said it."""
    n = len(classes)
    matrix = np.bincount(truth * n + guess, minlength=n * n).reshape(n, n)
    sums = zip(matrix.sum(axis=1), np.diag(matrix), matrix.sum(axis=0), strict=True)
    off = matrix - np.diag(np.diag(matrix))
    most = [divmod(int(index), n) for index in np.argsort(-off, axis=None, kind="stable")[:15]]
    return {
        "classes": classes,
        "by_class": [{"examples": int(a), "right": int(b), "taken": int(c)} for a, b, c in sums],
        "confused": [{"true": a, "predicted": b, "count": int(off[a, b])} for a, b in most if off[a, b]],
        "confusion": matrix.tolist() if n <= 200 else None,
    }


def pairs_of(classes: list[str], truth: Any, guess: Any) -> Document:
    """How today's runs say it."""
    found = Counter(zip(truth.tolist(), guess.tolist(), strict=True))
    document = {"class_count": len(classes), "classes_sha256": hashlib.sha256(json.dumps(classes).encode()).hexdigest()}
    used = {number for pair in found for number in pair}
    names = {"classes": classes} if len(classes) <= 1000 else {"names": {str(number): classes[number] for number in used}}
    return {**document, **names, "pairs": [[*pair, count] for pair, count in sorted(found.items())]}


def results(classes: list[str], examples: int, shape: tuple[int, int, int], earlier: bool) -> tuple[Document, dict[str, Any]]:
    """What the analysis writes, for random predictions that are mostly right; `earlier`: as of the time of whole matrices."""
    random, n = np.random.default_rng(0), len(classes)
    truth = random.integers(0, n, examples)
    guess = np.where(random.random(examples) < 0.9, truth, random.integers(0, n, examples))
    wrong = np.flatnonzero(truth != guess)[:24]
    document = {
        "attempt": 2,
        "examples": examples,
        "of": examples,
        **(matrix_of(classes, truth, guess) if earlier else pairs_of(classes, truth, guess)),
        "mistakes": [
            {"row": int(i), "true": int(truth[i]), "predicted": int(guess[i]), "probability": 0.98, "of_true": 0.01}
            for i in wrong
        ],
        "wrong": int((truth != guess).sum()),
        "all_reduce_seconds": 0.0021,
        "first_layer": {
            "name": "conv2d",
            "kind": "Conv2D",
            "convolves": True,
            "filters": 32,
            "size": [5, 5, shape[2]],
            "true": 0,
            "predicted": 0,
            "probability": 0.9999,
        },
    }
    pictures = {
        "mistakes": random.integers(0, 256, (len(wrong), *shape), np.uint8),
        "example": random.integers(0, 256, (1, *shape), np.uint8),
        "filters": random.integers(0, 256, (32, 5, 5, shape[2]), np.uint8),
        "activations": random.integers(0, 256, (32, *shape[:2]), np.uint8),
    }
    return document, pictures


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def write_run(store: LocalStore) -> WriteRun:
    """Writes a run into the store; see Writer."""
    return Writer(store)


class Writer:
    """Writes a run that was killed once, resumed and succeeded; the keys change that."""

    def __init__(self, store: LocalStore) -> None:
        self.store = store

    def __call__(
        self,
        run_id: str = "a-run",
        *,
        state: str = "succeeded",
        rows: list[Document] | None = None,
        classes: list[str] | None = None,
        examples: int = 200,
        shape: tuple[int, int, int] = (28, 28, 1),
        spec: Document | None = None,
        facts: bool = True,
        error: Document | None = None,
        earlier: bool = False,
    ) -> RunRecord:
        record = RunRecord(self.store, run_id)
        keys = {"model": "cnn", "dataset": "digits", "epochs": 10, "batch": 64, "workers": 2, "worker": {"cpus": 0.5}}
        command = ["delayline", "train", "my run.yaml"]
        origin = Origin(recipe="mine", dataset_version="uci-1998", command=command, folder="/home/me")
        record.claim(TrainSpec.model_validate({**keys, **(spec or {})}), origin)
        if state == "queued":
            return record
        self._documents(record, state, history() if rows is None else rows, error)
        if facts:
            self._facts(record, state, CLASSES if classes is None else classes, examples, shape, earlier)
        return record

    def _documents(self, record: RunRecord, state: str, rows: list[Document], error: Document | None) -> None:
        ended = state in ("succeeded", "failed", "cancelled")
        last = attempt(2, 41, 80 if ended else None, state if ended else None)
        metrics = {name: rows[-1][name] for name in ("loss", "accuracy")} if rows else {}
        metrics |= {"test_accuracy": 0.9, "test_loss": 0.31} if state == "succeeded" else {}
        record.write_state(
            StateDocument(
                state=state,
                attempts=[attempt(1, 0, 38, "A peer was lost: Connection reset by peer"), last],
                started=START,
                finished=START + 80 if ended else None,
                metrics=metrics,
                error=error,
            )
        )
        record.write_progress(
            ProgressDocument(
                attempt=2,
                step=rows[-1]["step"] if rows else 0,
                steps=200,
                epoch=10,
                metrics=metrics,
                timing={
                    "training_seconds": 21.0,
                    "building_seconds": 3.0,
                    "building_steps": 10,
                    "input_seconds": 0.4,
                    "checkpoint_seconds": 0.2,
                    "evaluation_seconds": 1.1,
                },
                time=START + 79,
                workers=last["workers"],
            )
        )
        record.write_history(rows)
        self.store.write(record.paths.events(record.label(1), "driver"), rows_to_bytes(EVENTS))

    def _facts(
        self, record: RunRecord, state: str, names: list[str], examples: int, shape: tuple[int, int, int], earlier: bool
    ) -> None:
        counts = {"training": 1293, "validation": 144, "test": examples, "steps_per_epoch": 20, "by_class": [143] * len(names)}
        document = {
            "layers": [LAYER],
            "parameters": 454922,
            "trained": 454922,
            "classes": names,
            "features": [{"name": "image", "dtype": "uint8", "shape": list(shape), "scale": 255.0}],
            "counts": counts,
            "versions": {"python": "3.12.1", "tensorflow": "2.21.0"},
        }
        self.store.write(record.paths.model_facts(record.label(2)), to_bytes(document))
        machine = {
            "processor": "A processor of a long name @ 2.1 GHz",
            "cores": 2,
            "cpus": 0.5,
            "memory": 8 * 1024**3,
            "gpus": [],
        }
        for rank in range(2):
            self.store.write(
                record.paths.hardware(record.label(2), rank), to_bytes({"rank": rank, "host": "node-<1>", **machine})
            )
        if state == "succeeded":
            found, pictures = results(names, examples, shape, earlier)
            self.store.write(record.paths.pictures(record.label(2)), save(pictures))
            self.store.write(record.paths.results(record.label(2)), to_bytes(found))
