"""How a run is shown while it lives: one live line on a terminal, plain lines elsewhere; on standard error."""

import time
from abc import ABC, abstractmethod
from typing import Any

from service.cli.console import figures, idle_words, printable, say
from service.records.schemas import ProgressDocument, RunState
from service.runs import Update
from service.words import clock

PLAIN_SECONDS = 5.0
"""Between plain lines within an epoch (assumed: a log that stays readable)."""
IDLE_SECONDS = 30.0
"""Without a step that is said (assumed: more than an evaluation's parts take)."""
_FIGURES = ("loss", "accuracy", "val_loss", "val_accuracy")
_QUIET_EVENTS = frozenset({"checkpoint"})


class Display(ABC):
    """Shows updates; each event, state and model summary once."""

    noun = "run"

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._state: RunState | None = None
        self._problem: str | None = None
        self._summary = ""

    def show(self, update: Update) -> None:
        """Show what is new."""
        if update.problem != self._problem:
            self._problem = update.problem
            self.note(f"The store does not answer; waiting: {update.problem}" if update.problem else "The store answers again.")
        if update.state != self._state:
            self._state = update.state
            if not update.is_ended:
                self.note(f"{self.noun} {self._run_id} is {update.state}")
        summary = update.progress.model_summary or ""
        if summary and summary != self._summary:
            self._summary = summary
            self.note(summary.rstrip())
        # Before the first step, too, something may stand still.
        idle = update.progress.idle_seconds or 0.0
        if update.progress.step or update.progress.table or idle >= IDLE_SECONDS:
            self.advance(update.progress)
        for row in update.events:
            if row.event not in _QUIET_EVENTS:
                self.note(f"{time.strftime('%H:%M:%S', time.localtime(row.time))} {row.message or row.event}")

    @abstractmethod
    def note(self, text: str) -> None:
        """A line that stays."""

    @abstractmethod
    def advance(self, progress: ProgressDocument) -> None:
        """Show how far the training is."""

    def close(self) -> None:
        """Nothing more will be shown."""
        return


class PlainDisplay(Display):
    """Lines for logs and pipes: one each epoch and every few seconds."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self._shown: tuple[Any, ...] = ()
        self._last_line = 0.0
        self._line = ""
        self._idle = 0
        """For how long there was no step, when that was said last."""

    def note(self, text: str) -> None:
        say(text)

    def advance(self, progress: ProgressDocument) -> None:
        place = (progress.attempt, progress.phase, progress.epoch)
        due = time.monotonic() - self._last_line >= PLAIN_SECONDS
        idle = int(progress.idle_seconds or 0)
        still = idle >= IDLE_SECONDS and idle >= 2 * self._idle
        self._idle = idle if still else min(self._idle, idle)
        if place != self._shown[:3] or (due and progress.step != self._shown[3]) or still:
            self._shown = (*place, progress.step)
            self._last_line = time.monotonic()
            line = describe(progress)
            if line != self._line:
                say(line)
            self._line = line


class LiveDisplay(Display):
    """Two lines at the end of a terminal: how far, how fast; and the metrics."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.text import Text

        console = Console(stderr=True)
        self._bar = Progress(BarColumn(bar_width=20), TextColumn("{task.description}", markup=False), console=console)
        self._task = self._bar.add_task("waits for the driver", total=None)
        self._figures = Text(no_wrap=True, overflow="ellipsis")
        self._live = Live(Group(self._bar, self._figures), console=console, transient=True, refresh_per_second=4)
        self._live.start()

    def note(self, text: str) -> None:
        self._live.console.print(printable(text), markup=False, highlight=False)

    def advance(self, progress: ProgressDocument) -> None:
        self._figures.plain = _metrics(progress)
        self._bar.update(
            self._task,
            description="  ".join(_pace(progress)),
            completed=progress.step or 0,
            total=progress.steps,
        )

    def close(self) -> None:
        self._live.stop()


def describe(progress: ProgressDocument) -> str:
    """`epoch 3/20  step 120/400  5,321 examples/s  0:12 left  loss 0.1234  accuracy 0.9700`."""
    return "  ".join(word for word in [*_pace(progress), _metrics(progress)] if word)


def _pace(progress: ProgressDocument) -> list[str]:
    words = [_of("epoch", progress.epoch, progress.epochs), _of("step", progress.step, progress.steps)]
    if speed := progress.examples_per_second:
        words.append(f"{speed:,.0f} examples/s")
    if left := progress.eta_seconds:
        words.append(f"{clock(left)} left")
    if (idle := progress.idle_seconds or 0) >= IDLE_SECONDS:
        words.append(idle_words(idle))
    return words


def _metrics(progress: ProgressDocument) -> str:
    metrics = progress.metrics
    more = [name for name in metrics if name.startswith("val_") and name not in _FIGURES]
    return figures(metrics, [*_FIGURES, *more]) or figures(metrics)


def _of(noun: str, done: int | None, total: int | None) -> str:
    return f"{noun} {done or 0}" + (f"/{total}" if total else "")
