"""Let a finished run's model classify files: `python -m jobs.predict --run ID [--top K] FILE…`; prints a JSON document."""

import argparse
import os
import sys
from pathlib import Path

from jobs.command_line import add_common_options, add_trust_folder, exit_code_of, json_on_stdout
from jobs.inference.finished_run import finished_run
from jobs.inference.predicting import predict
from service.records.run_record import RunRecord
from service.settings import Settings
from service.storage import open_store


def main(argv: list[str]) -> int:
    """Parse, predict and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.predict", description="Let a run's model classify files.")
    parser.add_argument("--run", required=True, help="the run's id")
    parser.add_argument("--top", type=int, default=1, help="how many classes to name, the likeliest first")
    add_trust_folder(parser)
    add_common_options(parser)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="pictures, .npz, CSV or Parquet")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def work() -> None:
        with json_on_stdout() as answer:
            record = RunRecord(open_store(Settings.load(store=arguments.store)), arguments.run)
            run = finished_run(record, "to predict with", arguments.trust_folder)
            answer(predict(run, arguments.files, arguments.top).document())

    return exit_code_of(work, arguments.debug)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
