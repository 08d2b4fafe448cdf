"""What the entry points share: `--store`, `--debug`, and an error told as one sentence with its exit code."""

import argparse
import sys
import traceback
from collections.abc import Callable

from service.errors import DelaylineError


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add `--store` and `--debug`."""
    parser.add_argument("--store", help="a folder, file:///folder or s3://bucket/prefix")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_trust_folder(parser: argparse.ArgumentParser) -> None:
    """Add `--trust-folder`, for those that import a user's own module."""
    parser.add_argument(
        "--trust-folder", action="store_true", help="import your own module from the folder that the store names, not from here"
    )


def exit_code_of(work: Callable[[], object], debug: bool) -> int:
    """Do the work; 0, or the exit code of what went wrong, which is told on standard error."""
    try:
        work()
    except DelaylineError as error:
        print(f"Error: {error}", file=sys.stderr)
        if debug:
            traceback.print_exc()
        return error.exit_code
    return 0
