import pytest

from service.cli.display import LiveDisplay, PlainDisplay, describe
from service.cli.follow import make_display
from service.records.run_record import queued
from service.records.schemas import Event, ProgressDocument, RunState
from service.runs import Update

PROGRESS = {"attempt": 1, "phase": "training", "epoch": 3, "epochs": 20, "step": 120, "steps": 400}
FIGURES = {"metrics": {"loss": 0.12345, "accuracy": 0.97, "other": 1}, "examples_per_second": 5321.4, "eta_seconds": 72.4}


def update(state: str = "running", **progress: object) -> Update:
    return Update(RunState(state), queued(), ProgressDocument(**{**PROGRESS, **FIGURES, **progress}), [])


def test_describes_progress() -> None:
    line = "epoch 3/20  step 120/400  5,321 examples/s  1:12 left  loss 0.1235  accuracy 0.9700"
    assert describe(ProgressDocument(**PROGRESS, **FIGURES)) == line
    assert describe(ProgressDocument(step=3)) == "epoch 0  step 3"


def test_plain_lines_come_once_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay("a-run")
    for step in range(100):
        display.show(update(step=step, epoch=step // 50, model_summary="a small model"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["run a-run is running", "a small model"]
    assert [line.split("  ")[1] for line in lines[2:]] == ["step 1/400", "step 50/400"]


def test_a_line_that_says_nothing_new_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay("a-run")
    for phase in ("training", "evaluating"):
        display.show(update(phase=phase))
    assert sum("step 120/400" in line for line in capsys.readouterr().err.splitlines()) == 1


def test_shows_states_events_and_a_store_that_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay("a-run")
    events = [
        Event(time=1.0, event="checkpoint", message="saved"),
        Event(time=1.0, event="lost", message="worker 1 was lost"),
    ]
    display.show(Update(RunState.RUNNING, queued(), ProgressDocument(), events))
    display.show(Update(RunState.RUNNING, queued(), ProgressDocument(), [], "No answer."))
    display.show(Update(RunState.RUNNING, queued(), ProgressDocument(), [], "No answer."))
    display.show(Update(RunState.RETRYING, queued(), ProgressDocument(), []))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "run a-run is running"
    assert lines[1].endswith("worker 1 was lost")
    assert lines[2:] == ["The store does not answer; waiting: No answer.", "The store answers again.", "run a-run is retrying"]


@pytest.mark.parametrize("step", [0, 120])
def test_says_for_how_long_there_was_no_step(capsys: pytest.CaptureFixture[str], step: int) -> None:
    """At twice the time again, and from the beginning after a step."""
    display = PlainDisplay("a-run")
    display.show(update(step=step))
    for idle in [None, 20, *range(30, 730, 10)]:
        display.show(update(step=step, idle_seconds=idle))
    for idle in (None, 40):
        display.show(update(step=120, idle_seconds=idle))
    lines = capsys.readouterr().err.splitlines()
    said = [f"no step for{line.split('no step for')[1].split('  ')[0]}" for line in lines if "no step for" in line]
    assert said == [f"no step for {words}" for words in ("30 s", "60 s", "2 min", "4 min", "8 min", "40 s")]


def test_the_live_line_says_for_how_long_there_was_no_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # rich draws its lines on a terminal alone.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    display = LiveDisplay("a-run")
    display.show(update(step=0, idle_seconds=720))
    display.close()
    assert "no step for 12 min" in capsys.readouterr().err


def test_standard_output_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    display = LiveDisplay("a-run")
    display.show(update(model_summary="a [bold]small[/bold] model"))
    display.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a [bold]small[/bold] model" in captured.err


def test_no_terminal_means_plain_lines() -> None:
    assert isinstance(make_display("a-run"), PlainDisplay)
