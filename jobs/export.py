"""Write a finished run's model for others: `python -m jobs.export --run ID --to DIR [--format keras|savedmodel|tflite]…`.

DIR/model.keras opens with `keras.saving.load_model` (a user's own layers must be importable), DIR/saved_model serves,
DIR/model.tflite is for small devices. All take features as the run handed them to its
model, divided by their `scale` (images: 0 to 1) or, where its spec says `scale: false`, as they are stored, and give logits. The run's
TensorBoard files come along, in DIR/tensorboard.
"""

import argparse
import os
import sys
from pathlib import Path

from jobs.command_line import add_common_options, add_trust_folder, exit_code_of, json_on_stdout
from jobs.inference.exporting import DEFAULT_FORMATS, export
from service.records.model_answers import Exported
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.choices import EXPORT_FORMATS
from service.storage import open_store


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
        with json_on_stdout() as answer:
            settings = Settings.load(store=arguments.store)
            record = RunRecord(open_store(settings), arguments.run)
            chosen, checked = arguments.format or DEFAULT_FORMATS, None if arguments.no_check else settings
            done = export(record, arguments.to, chosen, checked, arguments.trust_folder)
            _tell(done)
            if arguments.json:
                answer(done.document())

    return exit_code_of(work, arguments.debug)


def _tell(done: Exported) -> None:
    for name, each in done.formats.items():
        figures = "  ".join(f"{metric} {value:.4f}" for metric, value in (each.metrics or {}).items())
        of = "" if done.examples == done.test_examples else f" of {done.test_examples}"
        why = f": {each.not_checked}" if each.not_checked else ""
        how = f": {figures} on {done.examples}{of} examples, as the run's own" if figures else f" (not checked{why})"
        print(f"{name}{how}", file=sys.stderr)
    print(f"wrote {', '.join(each.path for each in done.formats.values())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
