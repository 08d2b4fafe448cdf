"""What a command answers on standard output, kept apart from what libraries and users' modules print there."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def answering() -> Iterator[Callable[[Any], None]]:
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
def hushed() -> Iterator[None]:
    """Keep what C++ code says on standard output and error to itself: pages for a failure that is told in one sentence."""
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
