"""Lines of a process's log for people, each with the time of day.

Not by Python's logging: Ray and Tune set its levels and handlers in their processes, and a worker's standard output is replaced while
it runs.
"""

import sys
import time


def timed(message: str) -> str:
    """The message with the time of day before it."""
    return f"{time.strftime('%H:%M:%S')} {message}"


def say(message: str) -> None:
    """Print a line on standard output, which is a worker's log."""
    print(timed(message), flush=True)


def say_aside(message: str) -> None:
    """Print a line on standard error, where standard output is for documents."""
    print(timed(message), file=sys.stderr, flush=True)
