"""Make the report of a run or a sweep: `python -m jobs.report --run ID [--to FILE]`, or `--compare A B… --to FILE`."""

import argparse
import sys
from pathlib import Path

from jobs.command_line import add_common_options, exit_code_of
from jobs.reports.write import compare, write_report
from service.errors import InvalidInput
from service.records.run_record import RunRecord
from service.settings import Settings
from service.storage import open_store


def main(argv: list[str]) -> int:
    """Parse, make the page and return the exit code."""
    arguments = parser().parse_args(argv)
    return exit_code_of(lambda: make(arguments), arguments.debug)


def parser() -> argparse.ArgumentParser:
    """One run, or several to compare."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.report", description="Make the HTML report of a run or a sweep, or compare several runs."
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", metavar="ID", help="the run or sweep; its report is kept in the store too")
    which.add_argument(
        "--compare", nargs="+", metavar="ID", help="the runs to set side by side, a sweep by its best trial; needs --to"
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="the file to write")
    add_common_options(parser)
    return parser


def make(arguments: argparse.Namespace) -> None:
    """Make the page and write it where it was asked for; raise InvalidInput when that cannot be written."""
    store = open_store(Settings.load(store=arguments.store))
    if arguments.compare and arguments.to is None:
        raise InvalidInput("A comparison belongs to no run and is not kept in the store: say where to write it by --to FILE.")
    page = compare(store, arguments.compare) if arguments.compare else write_report(RunRecord(store, arguments.run))
    if arguments.to is not None:
        write_file(arguments.to, page)


def write_file(path: Path, page: str) -> None:
    """Write a page; an existing file is replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"The file {path} cannot be written: {error.strerror or error}; give another one by --to.") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
