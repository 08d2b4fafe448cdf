"""Processes that outlive the one that starts them."""

import subprocess
from collections.abc import Sequence
from typing import TypeVar

Process = TypeVar("Process", bound="subprocess.Popen[bytes]")

_running: list["subprocess.Popen[bytes]"] = []
"""Kept until they end: Python warns of a Popen that is collected before its process has ended, which is what is wanted here."""


def outlives(process: Process) -> Process:
    """Mark a process as one that is not waited for and may outlive this one; return it."""
    _running[:] = [each for each in _running if each.poll() is None]
    _running.append(process)
    return process


def start_in_background(argv: Sequence[str]) -> None:
    """Start a process in a session of its own that reads nothing, and whose output is dropped; raise OSError where that cannot be."""
    nowhere = subprocess.DEVNULL
    outlives(subprocess.Popen(argv, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True))
