"""No escape codes where they are not wanted, and one JSON document wherever it is asked for."""

import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from support.workspace import BIN

from service.cli import main
from service.cli.console import print_yaml
from service.cli.display import LiveDisplay, PlainDisplay
from service.cli.follow import make_display
from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument, StateDocument

Delayline = Callable[..., Any]


def on_a_terminal(arguments: list[str], **environment: str) -> str:
    """What a command writes to a terminal that is its standard output and error."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [BIN / "delayline", *arguments], env={**kept, "TERM": "xterm", **environment}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            break
        if not chunk:
            break
        said += chunk
    process.wait(60)
    os.close(ours)
    return said.decode(errors="replace")


@pytest.fixture
def watched(submitted: RunRecord) -> list[str]:
    """The command that watches a run that has ended."""
    submitted.write_progress(ProgressDocument(attempt=1, phase="training", epoch=1, step=3, steps=9, metrics={"loss": 0.5}))
    submitted.write_state(StateDocument(state="succeeded", attempts=[], error=None, metrics={"test_accuracy": 0.5}, finished=2.0))
    return ["runs", "watch", "fake", "--store", submitted.store.url]


@pytest.mark.parametrize(
    ("environment", "coded"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)]
)
def test_the_live_display_is_for_terminals_that_want_it(watched: list[str], environment: dict[str, str], coded: bool) -> None:
    said = on_a_terminal(watched, **environment)
    assert "run fake succeeded" in said
    assert ("\x1b" in said) == coded


@pytest.mark.parametrize("arguments", [["--help"], ["runs", "--help"], ["recipes"], ["--show-completion", "bash"], ["trian"]])
def test_no_command_prints_colours(arguments: list[str]) -> None:
    assert "\x1b" not in on_a_terminal(arguments)


def test_a_pipe_gets_none(watched: list[str]) -> None:
    done = subprocess.run([BIN / "delayline", *watched], capture_output=True, text=True, env={**os.environ, "TERM": "xterm"})
    assert "\x1b" not in done.stdout + done.stderr


def test_the_display_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    live = make_display("a-run")
    live.close()
    assert isinstance(live, LiveDisplay)
    monkeypatch.setenv("NO_COLOR", "yes")
    assert isinstance(make_display("a-run"), PlainDisplay)


def leaves(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    names = command.list_commands(None) if hasattr(command, "list_commands") else []
    if not names:
        return [(path, command)]
    return [leaf for name in names for leaf in leaves(command.get_command(None, name), (*path, name))]


def test_every_command_takes_json() -> None:
    found = leaves(typer.main.get_command(main.app))
    assert ("runs", "prune") in [path for path, _ in found]
    lacking = [path for path, command in found if not any("--json" in parameter.opts for parameter in command.params)]
    assert lacking == []


def test_predict_passes_on_how_the_job_ended(delayline: Delayline, submitted: RunRecord, tmp_path: Path) -> None:
    done = delayline("predict", "fake", str(tmp_path / "none.png"), "--json")
    assert (done.code, done.out) == (2, "")
    assert delayline("predict", "absent", "a.png").code == 2
    assert "is not known: use keras" in delayline("export", "fake", str(tmp_path / "m"), "--format", "onnx").err


def test_yaml_repeats_what_stands_in_several_places(capsys: pytest.CaptureFixture[str]) -> None:
    shared = {"metric": "val_accuracy"}
    print_yaml({"first": shared, "second": shared, "text": "a \x1b[2J"})
    text = capsys.readouterr().out
    assert text.count("metric: val_accuracy") == 2
    assert not {"&", "*", "\x1b"} & set(text)
