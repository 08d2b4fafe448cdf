"""Commands that a page tells its reader to type: whether `delayline`, `python -m`, `just` and the benchmarks take them."""

import argparse
import contextlib
import importlib
import importlib.util
import io
import itertools
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer._click.core import Context
from typer._click.exceptions import BadOptionUsage, ClickException, MissingParameter

from service.cli.main import COMMANDS, app
from service.errors import DelaylineError

ROOT = Path(__file__).parents[2]
_ASSIGNMENT = re.compile(r"[A-Z_0-9]+=")
_TOOLS = {"pip", "uv", "pytest", "jq", "ray", "tensorboard", "chromium", "apt-get", "docker", "ctr", "kind", "minikube"}
"""Programs of others, whose options are theirs to check."""


def wrong_in_line(line: str, whole: bool) -> Iterator[str]:
    """What is wrong with the commands of a line, cut at pipes; the one that follows `--` is a command too."""
    command: list[str] = []
    words = shlex.split(line, comments=True)
    written = {place + 1 for place, word in enumerate(words) if word == ">"}
    for word in [*(word for place, word in enumerate(words) if word != ">" and place not in written), ";"]:
        if word not in ("&&", "||", "|", ";", "--"):
            command.append(word)
            continue
        if command[:1] == ["sudo"]:
            del command[0]
        if command[:1] == ["export"] and any(map(_ASSIGNMENT.match, command)):
            del command[0]
        command = list(itertools.dropwhile(_ASSIGNMENT.match, command))
        if command[:2] == ["uv", "run"]:
            del command[:2]
        for one in itertools.product(*(word.split("|") for word in command)):
            if one and (problem := wrong_command(list(one), whole)):
                yield f"{line.strip()}: {problem}"
        command = []


def wrong_command(command: list[str], whole: bool) -> str | None:
    """Why a program would refuse these arguments."""
    program, arguments = command[0], [word for word in command[1:] if word not in ("…", "...")]
    if program == "delayline":
        return wrong_arguments(arguments, whole)
    if program in COMMANDS:
        return wrong_arguments(command, whole=False)
    if program == "python" and arguments[:1] == ["-m"]:
        return wrong_module(arguments[1:], whole)
    if program == "just":
        return wrong_target(arguments)
    if program == "python":
        return None if arguments[:1] == ["-c"] or (ROOT / arguments[0]).is_file() else f"there is no {arguments[0]}"
    if program == "kubectl":
        files = [name for before, name in itertools.pairwise(arguments) if before in ("-f", "-k") and name.startswith("k8s/")]
        return next((f"there is no {name}" for name in files if not (ROOT / name).exists()), None)
    if program in ("bash", "sh"):
        return None if (ROOT / arguments[0]).is_file() else f"there is no {arguments[0]}"
    return None if program in _TOOLS else f"{program} is no command that the tests know"


def wrong_arguments(arguments: list[str], whole: bool) -> str | None:
    """Why `delayline` would refuse these arguments: command, subcommand, option or value."""
    node: Any = typer.main.get_command(app)
    context = None
    while arguments and hasattr(node, "get_command"):
        if arguments[0].startswith("-"):
            break
        context = Context(node, parent=context)
        node, name, arguments = node.get_command(context, arguments[0]), arguments[0], arguments[1:]
        if node is None:
            return f"there is no command {name}"
    try:
        # These alone would print what they print, and end; a group without a command prints its help.
        quiet = {"--debug", "--help", "--version", "--install-completion"}
        arguments = [word for word in arguments if word not in quiet]
        if arguments or not hasattr(node, "get_command"):
            node.make_context("delayline", arguments, parent=context)
    except (MissingParameter, BadOptionUsage) as error:
        return error.format_message() if whole else None
    except (ClickException, DelaylineError) as error:
        return error.format_message() if isinstance(error, ClickException) else str(error)
    return None


class _Parsed(Exception):
    """The arguments of an entry point were parsed, and nothing was done."""


def wrong_module(words: list[str], whole: bool) -> str | None:
    """Why `python -m` would refuse a module of ours with these arguments."""
    name, *arguments = words
    if not name.startswith(("jobs.", "service.")):
        return None if importlib.util.find_spec(name) else f"there is no module {name}"
    if re.fullmatch(r"jobs\.[A-Z]+|jobs\.<\w+>", name):
        return None
    if importlib.util.find_spec(name) is None:
        return f"there is no module {name}"
    parse = argparse.ArgumentParser.parse_args

    def parse_alone(parser: argparse.ArgumentParser, *given: Any) -> Any:
        parse(parser, *given)
        raise _Parsed

    said = io.StringIO()
    argparse.ArgumentParser.parse_args = parse_alone  # type: ignore[method-assign, assignment]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(name).main(arguments)
    except _Parsed:
        return None
    except SystemExit as end:
        fine = not end.code or (not whole and re.search("expected one argument|are required", said.getvalue()))
        return None if fine else said.getvalue().strip().splitlines()[-1]
    finally:
        argparse.ArgumentParser.parse_args = parse  # type: ignore[method-assign]
    return f"{name} did not parse its arguments"


def wrong_target(arguments: list[str]) -> str | None:
    """Why `just` would refuse a target, or a benchmark its options."""
    targets = re.findall(r"^(\w[\w-]*)[^:=\n]*:(?!=)", (ROOT / "justfile").read_text(), re.MULTILINE)
    if arguments and arguments[0] not in targets:
        return f"just has no target {arguments[0]}"
    if arguments[:1] == ["benchmark"] and len(arguments) > 1 and arguments[1].islower():
        script = ROOT / "tests" / "benchmarks" / f"{arguments[1]}.py"
        if not script.is_file():
            return f"there is no benchmark {arguments[1]}"
        unknown = [word for word in arguments[2:] if word.startswith("--") and f'"{word}"' not in script.read_text()]
        return f"the benchmark {arguments[1]} has no option {unknown[0]}" if unknown else None
    return None


def commands_with_options() -> Iterator[tuple[str, list[str]]]:
    """Each command of `delayline`, such as `runs list`, with its long options."""
    root: Any = typer.main.get_command(app)
    for name in COMMANDS:
        node = root.get_command(Context(root), name)
        nested = [(f"{name} {inner}", node.get_command(Context(node), inner)) for inner in getattr(node, "commands", {})]
        for words, command in nested or [(name, node)]:
            yield words, [text for parameter in command.params for text in parameter.opts if text.startswith("--")]


@cache
def all_options() -> set[str]:
    """Long options of `delayline`, of the benchmarks, and of others that pages name."""
    found = {option for _, options in commands_with_options() for option in options}
    found |= {"--debug", "--version", "--help", "--install-completion", "--no-check", "--working-dir"}
    for script in (ROOT / "tests" / "benchmarks").glob("*.py"):
        found |= set(re.findall(r'add_argument\("(--[a-z-]+)"', script.read_text()))
    return found
