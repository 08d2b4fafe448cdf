"""How a sweep is shown while it lives: a table of its trials, best first, on a terminal; a line now and then elsewhere."""

import time
from collections.abc import Sequence
from typing import Any

from service.cli.console import printable, say
from service.cli.display import Display
from service.records.answers import TrialRow
from service.records.schemas import ProgressDocument
from service.records.sweep_schemas import PointRow, TableRow
from service.sweeps.trials import OVER, STOPPED
from service.words import clock

PLAIN_SECONDS = 10.0
"""Between plain lines (assumed: a log that stays readable)."""
ROWS = 15
"""Of the live table (assumed: it leaves room on a terminal of 24 lines)."""


class PlainSweep(Display):
    """Lines for logs and pipes."""

    noun = "sweep"

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self._told = ""
        self._last_line = -PLAIN_SECONDS

    def note(self, text: str) -> None:
        say(text)

    def advance(self, progress: ProgressDocument) -> None:
        line = describe(progress)
        if line != self._told and time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._told, self._last_line = line, time.monotonic()
            say(line)


class LiveSweep(Display):
    """A table at the end of a terminal."""

    noun = "sweep"

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), transient=True, refresh_per_second=4)
        self._live.start()

    def note(self, text: str) -> None:
        self._live.console.print(printable(text), markup=False, highlight=False)

    def advance(self, progress: ProgressDocument) -> None:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 1), title_justify="left")
        for heading in ("TRIAL", "PARAMS", "STATE", "EPOCH", "RESULT"):
            table.add_column(heading, justify="right" if heading in ("EPOCH", "RESULT") else "left", no_wrap=heading != "PARAMS")
        rows = progress.table or ()
        named = several_bases(rows)
        for row in rows[:ROWS]:
            table.add_row(*(Text(printable(cell)) for cell in cells(row, named)))
        self._live.update(Group(table, Text(describe(progress))))

    def close(self) -> None:
        self._live.stop()


def cells(row: TableRow, named: bool = False) -> list[str]:
    """A trial as a row of a table: id, parameters as they are now after its base's name if `named`, state, epoch, result."""
    state = f"stopped by {row.stopped.by}" if row.state == STOPPED and row.stopped else row.state
    epoch = f"{row.epoch}/{row.epochs or '?'}" if row.epoch is not None else ""
    return [
        row.id,
        parameters(row, named) + changed(row.mutations),
        state,
        epoch,
        "" if row.value is None else f"{row.value:.4f}",
    ]


def changed(times: int) -> str:
    """Marks the parameters of a trial that did not begin with them."""
    return f" (after {times} take-over{'s' if times > 1 else ''})" if times else ""


def several_bases(rows: Sequence[TableRow | TrialRow]) -> bool:
    """Whether trials or points differ in their base, so that each is shown with its name."""
    return len({row.base for row in rows}) > 1


def parameters(row: TableRow | PointRow, named: bool = False) -> str:
    """`lstm delay=20 learning_rate=0.003 augment=flip+shift(2) seed 1`, with the base's name if `named`."""
    words = [f"{_label(key)}={_short(value)}" for key, value in row.params.items()]
    seed = [f"seed {row.seed}"] if isinstance(row, TableRow) and row.seed else []
    return " ".join([*([row.base] if named else []), *words, *seed])


def _label(key: str) -> str:
    """The last part of a key says enough, but for those that stand in several places."""
    parts = key.split(".")
    return ".".join(parts[-2:] if parts[-1] in ("name", "initial") else parts[-1:])


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict) and "name" in value:
        rest = [_short(each) for key, each in value.items() if key != "name"]
        return f"{value['name']}({', '.join(rest)})" if rest else str(value["name"])
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return "+".join(map(_short, value))
    return str(value)


def describe(progress: ProgressDocument) -> str:
    """`12 of 40 trials: 9 succeeded, 2 running, 1 stopped  best 0.9812 (delay=20)  about 3:20 left`."""
    counts, total = progress.trials or {}, progress.total
    over = sum(count for state, count in counts.items() if state in OVER)
    words = [f"{over} of {total} trials" if total else f"{over} trials"]
    words[0] += ": " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) if counts else ""
    if best := progress.best:
        words.append(f"best {best.metric} {best.mean:.4f} ({parameters(best, several_bases(progress.table or ()))})")
    left = progress.eta_seconds
    if left and over != total:
        words.append(f"about {clock(left)} left")
    return "  ".join(words)
