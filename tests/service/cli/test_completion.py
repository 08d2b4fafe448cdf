"""What the shell offers, asked as bash asks."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.workspace import BIN

from service.records.run_record import RunRecord

Offered = Callable[..., list[str]]


@pytest.fixture
def offered(submitted: RunRecord, tmp_path: Path) -> Offered:
    """The words that bash would offer for a line, the last word of which is being typed."""

    def ask(*words: str, **environment: str) -> list[str]:
        line = ["delayline", *words]
        asked = {"COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1), "_DELAYLINE_COMPLETE": "complete_bash"}
        settings = {"DELAYLINE_STORE": submitted.store.url, "HOME": str(tmp_path)}
        done = subprocess.run(
            [BIN / "delayline"],
            env={**os.environ, **settings, **environment, **asked},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return ask


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["e"], ["export"]),
        (["runs", "sh"], ["show"]),
        (["runs", "show", "f"], ["fake"]),
        (["runs", "show", "x"], []),
        (["runs", "prune", "--state", "f"], ["failed"]),
        (["train", "cnn-d"], ["cnn-digits"]),
        (["recipes", "lenet5-"], ["lenet5-digits", "lenet5-mnist"]),
        (["train", "--name", "f"], ["fake"]),
        (["data", "show", "d"], ["digits"]),
        (["data", "import", "cifar1"], ["cifar10", "cifar100"]),
        (["export", "fa"], ["fake"]),
        (["export", "fake", "--format", "t"], ["tflite"]),
        (["predict", "fa"], ["fake"]),
        (["doctor", "--cl"], ["--cluster"]),
    ],
)
def test_names_are_offered(offered: Offered, words: list[str], wanted: list[str]) -> None:
    assert offered(*words) == wanted


def test_a_store_that_is_away_offers_nothing_and_soon(offered: Offered) -> None:
    began = time.monotonic()
    url = "s3://bucket?endpoint_override=http://127.0.0.1:9"
    assert offered("runs", "show", "f", DELAYLINE_STORE=url, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b") == []
    assert time.monotonic() - began < 10
    assert offered("runs", "show", "f", DELAYLINE_STORE="s3://") == []


def test_the_commands_are_offered_without_importing_them(offered: Offered) -> None:
    code = (
        "import sys\nfrom service.cli.main import run\nrun()\n"
        "print([name for name in ('service.cli.train', 'service.specs.train', 'boto3') if name in sys.modules], file=sys.stderr)"
    )
    asked = {"COMP_WORDS": "delayline t", "COMP_CWORD": "1", "_DELAYLINE_COMPLETE": "complete_bash"}
    done = subprocess.run([BIN / "python", "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr.strip()) == (["train"], "[]")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_shown(shell: str) -> None:
    """Typer looks for the shell above it; without that it takes its name."""
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    argv = [BIN / "delayline", "--show-completion", shell]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert "_DELAYLINE_COMPLETE=complete_" + shell in done.stdout and "\x1b" not in done.stdout


def test_bash_completes_after_installation(tmp_path: Path, submitted: RunRecord) -> None:
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "DELAYLINE_STORE": submitted.store.url,
    }
    installs = {**environment, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    subprocess.run([BIN / "delayline", "--install-completion", "bash"], env=installs, capture_output=True, check=True)
    line = 'COMP_WORDS=(delayline runs show fa); COMP_CWORD=3; _delayline_completion delayline; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", f"source {tmp_path}/.bash_completions/delayline.sh; {line}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["fake"], done.stderr
    assert "bash_completions/delayline.sh" in (tmp_path / ".bashrc").read_text()
