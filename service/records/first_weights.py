"""Where a run's first weights come from: another run, or a file in the store; found and checked before anything starts."""

from dataclasses import dataclass
from typing import Any

from service import recipes
from service.datasets import find_dataset
from service.errors import InvalidInput, NotFound, UnknownName
from service.records.run_record import Document, RunRecord, from_bytes
from service.records.schemas import RunState
from service.specs.train import WEIGHT_FILES, TrainSpec
from service.storage.base import Store, check_key
from service.storage.paths import RunPaths

_FIRST_BYTES = 9
"""A safetensors file: the header's length in 8 bytes, then the header, which is JSON."""


@dataclass(frozen=True)
class FirstWeights:
    """The object in the store that holds the weights, and what is known of it before it is read."""

    key: str
    run: str | None = None
    """The run that made it; with the `step` of its checkpoint where it is one."""
    step: int | None = None
    sha256: str | None = None
    """What the checkpoint's manifest says."""
    classes: tuple[str, ...] | None = None
    """The classes of the data that the run learned, where that dataset is still there."""

    def document(self) -> Document:
        """As it stands in the new run's documents, without what is not known."""
        values = {**vars(self), "classes": list(self.classes) if self.classes is not None else None}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "FirstWeights":
        """What `document` gave."""
        classes = document.get("classes")
        return cls(**{**document, "classes": tuple(classes) if classes is not None else None})

    def __str__(self) -> str:
        if self.run is None:
            return f"the file {self.key}"
        return f"the run {self.run}" + (f" at step {self.step}" if self.step is not None else "")


def origin_of_weights(store: Store, spec: TrainSpec, run_id: str) -> Document:
    """`init_from` for a new run's submission, or nothing; raise InvalidInput or UnknownName.

    A run that exists is not checked again: it has its weights, or the note of where they are.
    """
    if spec.init_from is None:
        return {}
    own = RunPaths(run_id)
    if spec.init_from == run_id or spec.init_from.startswith(own.root):
        raise InvalidInput(
            f"The run {run_id!r} cannot start from itself: give init_from another run, or this one another --name."
        )
    if store.exists(own.spec):
        return {}
    return {"init_from": find_weights(store, spec.init_from).document()}


def weights_of(record: RunRecord, spec: TrainSpec) -> FirstWeights:
    """What the submission of a run notes of its first weights; of a run without such a note they are looked for."""
    noted = record.submission().get("init_from")
    return find_weights(record.store, str(spec.init_from)) if noted is None else FirstWeights.from_document(noted)


def find_weights(store: Store, init_from: str) -> FirstWeights:
    """The weights that a spec's `init_from` names; raise InvalidInput or UnknownName."""
    return _of_file(store, init_from) if init_from.endswith(WEIGHT_FILES) else _of_run(RunRecord(store, init_from))


def _of_file(store: Store, key: str) -> FirstWeights:
    try:
        first = store.read_range(check_key(key), 0, _FIRST_BYTES)
    except NotFound as error:
        raise UnknownName(
            f"There is no file {key[:200]!r} in {store.url} for init_from: copy it there, or give a run's id."
        ) from error
    kind = key.rsplit(".", 1)[-1]
    if not (first.startswith(b"PK") if kind == "keras" else first[8:] == b"{"):
        raise InvalidInput(
            f"The file {key[:200]!r} in {store.url} is no {kind} file: write it with "
            + ("Keras' model.save." if kind == "keras" else "safetensors' save_file.")
        )
    return FirstWeights(key)


def _of_run(record: RunRecord) -> FirstWeights:
    """What the run ended with: its last checkpoint, or the best where it ended with that; else its model file."""
    try:
        submission = record.submission()
    except UnknownName as error:
        raise UnknownName(_absent(record)) from error
    state = record.state()["state"]
    if state != RunState.SUCCEEDED:
        newest = next(reversed(record.checkpoints()), {"path": f"runs/{record.run_id}/checkpoints/FOLDER/"})
        example = f"{newest['path']}model.safetensors"
        raise InvalidInput(
            f"init_from names the run {record.run_id!r}, which is {state}: only a run that succeeded has weights to start from, "
            f"or give the key of one of its checkpoints, such as {example}."
        )
    stopping = submission["spec"].get("early_stopping") or {}
    found = _checkpoint(record, best=bool(stopping.get("restore_best")))
    if found is None and not record.store.exists(record.paths.model):
        raise InvalidInput(
            f"init_from names the run {record.run_id!r}, which has neither a checkpoint nor a model left: give another run."
        )
    place = {"key": record.paths.model} if found is None else found
    return FirstWeights(run=record.run_id, classes=_classes(record.store, submission), **place)


def _absent(record: RunRecord) -> str:
    name = record.run_id
    remedy = (
        f"make it with `delayline train {name} --name {name}`" if name in recipes.names() else "`delayline runs list` shows them"
    )
    return f"There is no run {name!r} in {record.store.url} for init_from: {remedy}, or give another by -s init_from=RUN."


def _checkpoint(record: RunRecord, best: bool) -> dict[str, Any] | None:
    paths = [str(checkpoint["path"]) for checkpoint in record.checkpoints()]
    if not paths:
        return None
    manifests = [(path, from_bytes(record.store.read(f"{path}manifest.json"), path)) for path in paths]
    scored = [(path, manifest) for path, manifest in manifests if manifest["score"] is not None]
    order = min(scored, key=lambda each: (each[1]["score"], each[1]["step"])) if best and scored else manifests[-1]
    path, chosen = order
    # Of a run whose optimizer averages weights these are the averages.
    file = next(name for name in ("averaged.safetensors", "model.safetensors") if name in chosen["files"])
    return {"key": path + file, "step": int(chosen["step"]), "sha256": chosen["files"][file]["sha256"]}


def _classes(store: Store, submission: Document) -> tuple[str, ...] | None:
    dataset, version = str(submission["spec"]["dataset"]), submission.get("dataset_version")
    try:
        pinned = dataset if "@" in dataset or version is None else f"{dataset}@{version}"
        return find_dataset(store, pinned, submission["spec"].get("dataset_params")).classes
    except UnknownName:
        return None
