import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from service.cli import main
from service.errors import Cancelled, DelaylineError, InvalidInput, StoreError, UserFailure

Delayline = Callable[..., Any]
HEAVY = ("boto3", "numpy", "pyarrow", "pydantic", "ray", "rich", "tensorflow", "yaml")


def test_the_help_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['delayline', '--help']\nfrom service.cli.main import run\nassert run() == 0\n"
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_help_names_every_command(delayline: Delayline) -> None:
    done = delayline("--help")
    assert done.code == 0
    assert all(f"  {name} " in done.out for name in main.COMMANDS)


@pytest.mark.parametrize("name", sorted(main.COMMANDS))
def test_each_command_has_its_help(delayline: Delayline, name: str) -> None:
    done = delayline(name, "--help")
    assert done.code == 0
    assert "--help" in done.out


def test_says_its_version(delayline: Delayline) -> None:
    assert delayline("--version").out.startswith("delayline 0.")


@pytest.mark.parametrize(
    "arguments", [["trian"], ["train", "--colour"], ["runs"], ["runs", "show"], ["runs", "logs", "x", "--rank", "a"]]
)
def test_wrong_usage_ends_with_2(delayline: Delayline, arguments: list[str]) -> None:
    done = delayline(*arguments)
    assert done.code == 2
    assert "Traceback" not in done.err


def test_a_mistyped_command_names_the_closest(delayline: Delayline) -> None:
    assert "Did you mean 'train'?" in delayline("trian").err


@pytest.mark.parametrize(
    "error", [InvalidInput("Why."), UserFailure("Why."), DelaylineError("Why."), StoreError("Why."), Cancelled("Why.")]
)
def test_an_error_is_one_sentence_and_its_exit_code(capsys: pytest.CaptureFixture[str], error: DelaylineError) -> None:
    assert main.report(error, debug=False) == error.exit_code
    assert capsys.readouterr().err == ("Why.\n" if isinstance(error, Cancelled) else "Error: Why.\n")


def test_a_mistake_of_our_own_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.report(ZeroDivisionError("division\nby zero"), debug=False) == 4
    err = capsys.readouterr().err
    assert err.startswith("Error: Delayline itself failed by ZeroDivisionError: division by zero")
    assert "--debug" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("place", ["before", "behind"])
def test_debug_shows_the_traceback(delayline: Delayline, place: str) -> None:
    arguments = ["runs", "show", "../up"]
    done = delayline(*(["--debug", *arguments] if place == "before" else [*arguments, "--debug"]))
    assert done.code == 2
    assert "Traceback" in done.err
    assert "Error: The run id" in done.err
    assert "Traceback" not in delayline(*arguments).err


def test_debug_shows_the_users_own_stack(capsys: pytest.CaptureFixture[str]) -> None:
    main.report(UserFailure("Why.", "nets.py, line 3"), debug=True)
    assert "nets.py, line 3" in capsys.readouterr().err


def test_control_characters_do_not_reach_the_terminal(delayline: Delayline) -> None:
    assert "\x1b" not in delayline("train", "\x1b[2Jx.yaml").err


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m service.cli.main recipes cnn-mnist --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
