"""What the entry points share: options, an error as one sentence with its exit code, one JSON document alone on standard output."""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from service.errors import DelaylineError


@contextlib.contextmanager
def json_on_stdout() -> Iterator[Callable[[Any], None]]:
    """Give a function that prints a JSON document on standard output; all else that is printed there goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:

        def answer(document: Any) -> None:
            with open(kept, "w", encoding="utf-8", closefd=False) as stream:
                stream.write(json.dumps(document, indent=2, allow_nan=False) + "\n")

        yield answer
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep what C++ code says on standard output and error to itself: pages for a failure that is said in one sentence."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with tempfile.TemporaryFile() as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in zip((1, 2), kept, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)


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
    """Do the work; 0, or the exit code of what went wrong, which is said on standard error."""
    try:
        work()
    except DelaylineError as error:
        print(f"Error: {error}", file=sys.stderr)
        if debug:
            traceback.print_exc()
        return error.exit_code
    return 0
