"""Where a run's first weights come from: another run, or a file in the store; found and checked before anything starts."""

from service import recipes
from service.datasets import find_dataset
from service.errors import InvalidInput, NotFound, UnknownName
from service.records.checkpoint_index import MANIFEST
from service.records.checkpoint_schemas import CheckpointManifest
from service.records.run_record import RunRecord
from service.records.schemas import RunState
from service.records.stored_document import read_document
from service.records.submission_schemas import FirstWeights, SubmissionDocument
from service.specs.train import WEIGHT_FILES, TrainSpec
from service.storage.base import Store, check_key
from service.storage.paths import RunPaths

_FIRST_BYTES = 9
"""A safetensors file: the header's length in 8 bytes, then the header, which is JSON."""


def origin_of_weights(store: Store, spec: TrainSpec, run_id: str) -> FirstWeights | None:
    """Where a new run's first weights are, None for one that starts anew; raise InvalidInput or UnknownName.

    A run that exists is not checked again: it has its weights, or the note of where they are.
    """
    if spec.init_from is None:
        return None
    own = RunPaths(run_id)
    if spec.init_from == run_id or spec.init_from.startswith(own.root):
        raise InvalidInput(
            f"The run {run_id!r} cannot start from itself: give init_from another run, or this one another --name."
        )
    return None if store.exists(own.spec) else find_weights(store, spec.init_from)


def weights_of(record: RunRecord, spec: TrainSpec) -> FirstWeights:
    """What the submission of a run notes of its first weights; of a run without such a note they are looked for."""
    return record.submission().init_from or find_weights(record.store, str(spec.init_from))


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
    return FirstWeights(key=key)


def _of_run(record: RunRecord) -> FirstWeights:
    """What the run ended with: its last checkpoint, or the best where it ended with that; else its model file."""
    try:
        submission = record.submission()
    except UnknownName as error:
        raise UnknownName(_absent(record)) from error
    state = record.state().state
    if state != RunState.SUCCEEDED:
        saved = record.checkpoints()
        example = f"{saved[-1].path if saved else record.paths.checkpoint('FOLDER')}model.safetensors"
        raise InvalidInput(
            f"init_from names the run {record.run_id!r}, which is {state}: only a run that succeeded has weights to start from, "
            f"or give the key of one of its checkpoints, such as {example}."
        )
    stopping = submission.spec.get("early_stopping")
    found = _checkpoint(record, best=isinstance(stopping, dict) and bool(stopping.get("restore_best")))
    if found is None and not record.store.exists(record.paths.model):
        raise InvalidInput(
            f"init_from names the run {record.run_id!r}, which has neither a checkpoint nor a model left: give another run."
        )
    weights = (found or FirstWeights(key=record.paths.model)).changed(run=record.run_id)
    classes = _classes(record.store, submission)
    return weights if classes is None else weights.changed(classes=classes)


def _absent(record: RunRecord) -> str:
    name = record.run_id
    remedy = (
        f"make it with `delayline train {name} --name {name}`" if name in recipes.names() else "`delayline runs list` shows them"
    )
    return f"There is no run {name!r} in {record.store.url} for init_from: {remedy}, or give another by -s init_from=RUN."


def _checkpoint(record: RunRecord, best: bool) -> FirstWeights | None:
    paths = [checkpoint.path for checkpoint in record.checkpoints()]
    if not paths:
        return None
    manifests = [(path, _manifest(record.store, f"{path}{MANIFEST}")) for path in paths]
    scored = [(manifest.score, manifest.step, path, manifest) for path, manifest in manifests if manifest.score is not None]
    path, chosen = min(scored, key=lambda each: each[:2])[2:] if best and scored else manifests[-1]
    # Of a run whose optimizer averages weights these are the averages.
    file = next(name for name in ("averaged.safetensors", "model.safetensors") if name in chosen.files)
    return FirstWeights(key=path + file, step=chosen.step, sha256=chosen.files[file].sha256)


def _manifest(store: Store, key: str) -> CheckpointManifest:
    return read_document(CheckpointManifest, store.read(key), key)


def _classes(store: Store, submission: SubmissionDocument) -> tuple[str, ...] | None:
    try:
        return find_dataset(store, submission.dataset, submission.dataset_params).classes
    except UnknownName:
        return None
