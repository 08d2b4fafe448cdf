"""A finished run's model written for others, and checked there."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jobs.command_line import silenced
from jobs.inference.finished_run import FinishedRun, finished_run
from service.errors import InvalidInput
from service.records.model_answers import Exported, ExportedFormat
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.choices import EXPORT_FORMATS

DEFAULT_FORMATS = ("keras", "savedmodel")
TENSORBOARD = "tensorboard"


def export(
    record: RunRecord,
    target: Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    settings: Settings | None = None,
    trust_folder: bool = False,
) -> Exported:
    """Write all `formats` into `target`, whole or not at all; what is there already is not replaced.

    `settings`: where the node's cache is, for the comparison with the run's model on its test split; without them there is none.
    `trust_folder`: import a user's own module from the folder that the store names, not from the current one.
    Raise UserFailure where a format is not possible or answers otherwise than the run's model.
    """
    run = finished_run(record, "to export", trust_folder)
    names = [EXPORT_FORMATS[name] for name in dict.fromkeys(formats)]
    standing = [name for name in (*names, TENSORBOARD) if (target / name).exists()]
    if standing or (target.exists() and not target.is_dir()):
        raise InvalidInput(f"{target / standing[0] if standing else target} exists already: give another folder, or remove it.")
    parent = target if target.is_dir() else target.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".delayline-export-", dir=parent) as scratch:
            done = _write(run, list(dict.fromkeys(formats)), Path(scratch), target, settings)
            names += [TENSORBOARD] if _copy_curves(record, Path(scratch) / TENSORBOARD) else []
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                shutil.move(Path(scratch) / name, target / name)
    except OSError as error:
        raise InvalidInput(f"The folder {target} cannot be written: {error.strerror or error}; give another one.") from error
    return done


def _write(run: FinishedRun, formats: list[str], scratch: Path, target: Path, settings: Settings | None) -> Exported:
    """Write into `scratch` what will stand in `target`, and check it."""
    with silenced():
        from jobs.inference.formats import FORMS

    model = run.model(scratch)
    for name in formats:
        FORMS[name].write(model, scratch)
    paths = {name: str(target / EXPORT_FORMATS[name]) for name in formats}
    name_of_run, folder = run.record.run_id, str(target)
    if settings is None:
        unchecked = {name: ExportedFormat(path=path, metrics=None) for name, path in paths.items()}
        return Exported(run=name_of_run, folder=folder, examples=0, test_examples=None, formats=unchecked)
    from jobs.inference.export_check import Examiner

    examiner = Examiner(run, model, settings)
    checked: dict[str, ExportedFormat] = {}
    for name, path in paths.items():
        why = FORMS[name].why_unchecked()
        if why is None:
            checked[name] = ExportedFormat(path=path, metrics=examiner.examine(name, FORMS[name].open(run, model, scratch)))
        else:
            checked[name] = ExportedFormat(path=path, metrics=None, not_checked=why)
    return Exported(
        run=name_of_run,
        folder=folder,
        examples=examiner.examples,
        test_examples=examiner.total,
        metrics=examiner.metrics,
        formats=checked,
    )


def _copy_curves(record: RunRecord, folder: Path) -> bool:
    """Copy the run's TensorBoard files; return whether it has any."""
    keys = record.tensorboard()
    for key in keys:
        folder.mkdir(exist_ok=True)
        record.store.download(key, folder / key.rpartition("/")[2])
    return bool(keys)
