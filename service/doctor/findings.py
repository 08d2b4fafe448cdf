"""Checks in groups, each group in a thread with a time limit, and the lines that they give."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from service.errors import DelaylineError

Status = Literal["ok", "failed", "not checked"]
OK: Status = "ok"
FAILED: Status = "failed"
SKIPPED: Status = "not checked"


@dataclass(frozen=True)
class Finding:
    """What a check found: `status` is `ok`, `failed` or `not checked`; `text` says what is there, or the remedy."""

    status: Status
    text: str


@dataclass(frozen=True)
class Line:
    """One check's result."""

    name: str
    status: Status
    text: str
    seconds: float


Check = tuple[str, Callable[[], Finding]]


def ok(text: str) -> Finding:
    return Finding(OK, text)


def failed(text: str) -> Finding:
    return Finding(FAILED, text)


def skipped(text: str) -> Finding:
    return Finding(SKIPPED, text)


def examine(groups: Sequence[Sequence[Check]], limit: float) -> list[Line]:
    """Do the checks of each group one after the other and the groups at the same time, for `limit` seconds at most."""
    deadline = time.monotonic() + limit
    running = [_Group(checks) for checks in groups]
    for group in running:
        group.thread.join(max(0.0, deadline - time.monotonic()))
    return [line for group in running for line in group.result(limit)]


@dataclass
class _Group:
    checks: Sequence[Check]
    lines: list[Line] = field(default_factory=list)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        # A check that hangs must not keep the command: its thread ends with the process.
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        for name, check in self.checks:
            began = time.monotonic()
            try:
                found = check()
            except DelaylineError as error:
                found = failed(str(error))
            except Exception as error:
                found = failed(f"The check itself failed ({type(error).__name__}: {' '.join(str(error).split())[:200]}).")
            self.lines.append(Line(name, found.status, found.text, time.monotonic() - began))

    def result(self, limit: float) -> list[Line]:
        """The lines so far; what hangs has failed, what would have come after it was not checked."""
        lines = list(self.lines)
        for name, _ in self.checks[len(lines) :]:
            first = len(lines) == len(self.lines)
            text = (
                f"No answer within {limit:g} s: see whether the network lets it through." if first else "There was no time left."
            )
            lines.append(Line(name, FAILED if first else SKIPPED, text, limit if first else 0.0))
        return lines
