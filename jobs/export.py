"""Write a finished run's model for others: `python -m jobs.export --run ID --to DIR`.

DIR/model.keras opens with `keras.saving.load_model` (a user's own layers must be importable), DIR/saved_model serves.
Both take features divided by their `scale` (images: 0 to 1) and give logits.
"""

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import DelaylineError, InvalidInput, NotFound, UserFailure
from service.settings import Settings
from service.specs import TrainSpec
from service.storage import open_store
from service.storage.records import Document, RunRecord

if TYPE_CHECKING:
    import keras


def main(argv: list[str]) -> int:
    """Parse, export and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.export", description="Write a run's model as model.keras and a SavedModel."
    )
    parser.add_argument("--run", required=True, help="the run's id")
    parser.add_argument("--to", required=True, type=Path, help="the folder to write")
    parser.add_argument("--store", help="a folder, file:///folder or s3://bucket/prefix")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args(argv)
    try:
        record = RunRecord(open_store(Settings.load(store=arguments.store)), arguments.run)
        export(record, arguments.to)
    except DelaylineError as error:
        print(f"Error: {error}", file=sys.stderr)
        if arguments.debug:
            traceback.print_exc()
        return error.exit_code
    print(f"wrote {arguments.to}/model.keras and {arguments.to}/saved_model", file=sys.stderr)
    return 0


def export(record: RunRecord, target: Path) -> None:
    """Write both forms into `target`, whole or not at all; what stands there already is not replaced."""
    submission, state = record.submission(), record.state()
    if state["state"] != "succeeded":
        raise InvalidInput(f"The run {record.run_id!r} is {state['state']}: only a run that succeeded has a model to export.")
    names = ("model.keras", "saved_model")
    standing = [name for name in names if (target / name).exists()]
    if standing or (target.exists() and not target.is_dir()):
        raise InvalidInput(f"{target / standing[0] if standing else target} exists already: give another folder, or remove it.")
    parent = target if target.is_dir() else target.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".delayline-export-", dir=parent) as scratch:
            _write(record, submission, Path(scratch))
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                shutil.move(Path(scratch) / name, target / name)
    except OSError as error:
        raise InvalidInput(f"The folder {target} cannot be written: {error.strerror or error}; give another one.") from error


def _write(record: RunRecord, submission: Document, folder: Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    model = _load(record, submission, folder)
    file = folder / "model.keras"
    if not file.exists():
        try:
            model.save(file)
        except (TypeError, ValueError, NotImplementedError) as error:
            reason = " ".join(str(error).strip().split("\n\n")[0].split()).rstrip(".")[:300]
            raise UserFailure(f"Keras cannot save this model as a file: {reason}; give its layers get_config().") from error
    model.export(folder / "saved_model", verbose=False)


def _load(record: RunRecord, submission: Document, folder: Path) -> "keras.Model":
    """The model with its weights: from the run's model.keras, or for a user's own model built again by their function."""
    import keras

    spec = TrainSpec.model_validate(submission["spec"])
    try:
        record.store.download(record.paths.model, folder / "model.keras")
    except NotFound:
        return _rebuild(record, submission, spec)
    if spec.user_module is None:
        model: keras.Model = keras.saving.load_model(folder / "model.keras", compile=False)
        return model
    model = _built(record, submission, spec)
    model.load_weights(folder / "model.keras")
    return model


def _rebuild(record: RunRecord, submission: Document, spec: TrainSpec) -> "keras.Model":
    from jobs.checkpoints import CheckpointStore
    from jobs.variables import assign_variables

    checkpoints = CheckpointStore(record.store, record.paths, spec.checkpoint)
    best = checkpoints.best_kept() if spec.early_stopping and spec.early_stopping.restore_best else None
    snapshot = (
        checkpoints.load(best) if best is not None else checkpoints.load_newest(lambda step, why: print(why, file=sys.stderr))
    )
    if snapshot is None:
        raise InvalidInput(f"The run {record.run_id!r} has neither a model nor a checkpoint in {record.store.url}.")
    model = _built(record, submission, spec)
    assign_variables(model.variables, snapshot.model)
    return model


def _built(record: RunRecord, submission: Document, spec: TrainSpec) -> "keras.Model":
    from jobs.models import build_model
    from service.datasets import find_dataset

    version = submission.get("dataset_version")
    reference = spec.dataset if "@" in spec.dataset or version is None else f"{spec.dataset}@{version}"
    manifest = find_dataset(record.store, reference)
    shapes = {feature.name: feature.shape for feature in manifest.features}
    folder = submission.get("folder") or str(Path.cwd())
    return build_model(spec, shapes, len(manifest.classes), folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
