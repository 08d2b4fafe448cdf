"""Write a finished run's model for others: `python -m jobs.export --run ID --to DIR [--format keras|savedmodel|tflite]…`.

DIR/model.keras opens with `keras.saving.load_model` (a user's own layers must be importable), DIR/saved_model serves,
DIR/model.tflite is for small devices. All take features as the run handed them to its
model, divided by their `scale` (images: 0 to 1) or, where its spec says `scale: false`, as they are stored, and give logits. The run's
TensorBoard files come along, in DIR/tensorboard.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jobs.command_line import answering, hushed
from jobs.entry_point import add_common_options, add_trust_folder, exit_code_of
from jobs.inference.finished_run import FinishedRun, finished_run
from service.errors import InvalidInput
from service.records.run_record import Document, RunRecord
from service.settings import Settings
from service.specs.choices import EXPORT_FORMATS
from service.storage import open_store

DEFAULT_FORMATS = ("keras", "savedmodel")
TENSORBOARD = "tensorboard"


def main(argv: list[str]) -> int:
    """Parse, export and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.export", description="Write a run's model for use elsewhere.")
    parser.add_argument("--run", required=True, help="the run's id")
    parser.add_argument("--to", required=True, type=Path, help="the folder to write")
    parser.add_argument("--format", action="append", choices=sorted(EXPORT_FORMATS), help="may be given again")
    parser.add_argument("--no-check", action="store_true", help="do not compare what was written with the run's model")
    parser.add_argument("--json", action="store_true", help="print a JSON document on standard output")
    add_trust_folder(parser)
    add_common_options(parser)
    arguments = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def work() -> None:
        with answering() as answer:
            settings = Settings.load(store=arguments.store)
            record = RunRecord(open_store(settings), arguments.run)
            chosen, checked = arguments.format or DEFAULT_FORMATS, None if arguments.no_check else settings
            done = export(record, arguments.to, chosen, checked, arguments.trust_folder)
            _tell(done)
            if arguments.json:
                answer(done)

    return exit_code_of(work, arguments.debug)


def _tell(done: Document) -> None:
    for name, each in done["formats"].items():
        figures = "  ".join(f"{metric} {value:.4f}" for metric, value in (each["metrics"] or {}).items())
        of = "" if done["examples"] == done["test_examples"] else f" of {done['test_examples']}"
        how = f": {figures} on {done['examples']}{of} examples, as the run's own" if figures else " (not checked)"
        print(f"{name}{how}", file=sys.stderr)
    print(f"wrote {', '.join(each['path'] for each in done['formats'].values())}", file=sys.stderr)


def export(
    record: RunRecord,
    target: Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    settings: Settings | None = None,
    trust_folder: bool = False,
) -> Document:
    """Write all `formats` into `target`, whole or not at all; what stands there already is not replaced.

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
            done = _write(run, list(dict.fromkeys(formats)), Path(scratch), settings)
            names += [TENSORBOARD] if _copy_curves(record, Path(scratch) / TENSORBOARD) else []
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                shutil.move(Path(scratch) / name, target / name)
    except OSError as error:
        raise InvalidInput(f"The folder {target} cannot be written: {error.strerror or error}; give another one.") from error
    for name, each in done["formats"].items():
        each["path"] = str(target / EXPORT_FORMATS[name])
    return {"run": record.run_id, "folder": str(target), **done}


def _write(run: FinishedRun, formats: list[str], scratch: Path, settings: Settings | None) -> Document:
    with hushed():
        from jobs.inference.formats import FORMS

    model = run.model(scratch)
    for name in formats:
        FORMS[name].write(model, scratch)
    if settings is None:
        return {"examples": 0, "test_examples": None, "formats": {name: {"metrics": None} for name in formats}}
    from jobs.inference.export_check import Examiner

    examiner = Examiner(run, model, settings)
    checked = {name: {"metrics": examiner.examine(name, FORMS[name].open(run, model, scratch))} for name in formats}
    return {"examples": examiner.examples, "test_examples": examiner.total, "metrics": examiner.metrics, "formats": checked}


def _copy_curves(record: RunRecord, folder: Path) -> bool:
    """Copy the run's TensorBoard files; return whether it has any."""
    keys = record.tensorboard()
    for key in keys:
        folder.mkdir(exist_ok=True)
        record.store.download(key, folder / key.rpartition("/")[2])
    return bool(keys)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
