"""Markdown pages of the repository: what they name, and what of it there is not."""

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import itertools
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer
import yaml
from typer._click.core import Context
from typer._click.exceptions import BadOptionUsage, ClickException, MissingParameter

from service import recipes
from service.cli.main import COMMANDS, app
from service.errors import DelaylineError
from service.recipes import sweeps

ROOT = Path(__file__).parents[2]
FILES = (".py", ".sh", ".md", ".toml", ".yaml", ".zip", ".css")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_ASSIGNMENT = re.compile(r"[A-Z_0-9]+=")
_TOOLS = {"pip", "uv", "pytest", "jq", "ray", "tensorboard", "chromium", "apt-get"}
"""Programs of others, whose options are theirs to check."""


@dataclass(frozen=True)
class Page:
    """A page: where it stands, and its text."""

    path: Path
    text: str

    def blocks(self, *languages: str) -> Iterator[str]:
        """The fenced blocks in one of the languages; "" is a block that names none."""
        return (body for language, body in _FENCE.findall(self.text) if language in languages)

    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def code(self) -> list[str]:
        """What stands in backticks within lines."""
        return _CODE.findall(self.prose())

    def links(self) -> list[str]:
        """The targets of links and pictures."""
        return re.findall(r"\]\(([^)\s]+)\)", self.prose()) + re.findall(r'(?:src|href)="([^"]+)"', self.prose())

    def anchors(self) -> set[str]:
        """What `#…` may name: the headings as GitHub writes them."""
        found: list[str] = []
        for title in re.findall(r"^#{1,6} +(.+?) *$", self.prose(), re.MULTILINE):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
            slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
        return set(found)

    def commands(self) -> Iterator[tuple[str, bool]]:
        """The lines that a reader would type, and whether they are whole: in running text arguments may be left out."""
        for block in self.blocks("sh"):
            yield from ((line, True) for line in block.splitlines())
        for block in self.blocks("console"):
            yield from ((line[2:], True) for line in block.splitlines() if line.startswith("$ "))
        first = {f"{name} " for name in COMMANDS} | {"uv ", "delayline ", "just ", "python -m ", "pip "}
        yield from ((code, False) for code in self.code() if code.startswith(tuple(first)))


def pages() -> list[Page]:
    """All pages that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = sorted({ROOT / name for name in done.stdout.splitlines()})
    return [Page(path, path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def problems(page: Page) -> list[str]:
    """What the page names and there is not, a sentence each."""
    found = [problem for line, whole in page.commands() for problem in wrong_in_line(line, whole)]
    found += [problem for target in page.links() if (problem := wrong_link(page, target))]
    found += [f"{code}: there is no such path" for code in page.code() if names_path(code) and not is_there(page, code)]
    found += [problem for code in page.code() if (problem := wrong_word(code))]
    trees = {name for tree in page.blocks("") for name in re.findall(r"[\w.]+/", tree)}
    found += [f"{name}: there is no such folder" for name in sorted(trees) if not folder(name)]
    found += [problem for block in page.blocks("yaml") if (problem := wrong_spec(block))]
    found += [f"{block[:60]!r} is no Python" for block in page.blocks("python") if not parses(block)]
    return found


# Commands


def wrong_in_line(line: str, whole: bool) -> Iterator[str]:
    """What is wrong with the commands of a line, cut at pipes; the one that follows `--` is a command too."""
    command: list[str] = []
    for word in [*shlex.split(line, comments=True), ";"]:
        if word not in ("&&", "||", "|", ";", "--", ">"):
            command.append(word)
            continue
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
    if program == "bash":
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


# Links, paths, words


def wrong_link(page: Page, target: str) -> str | None:
    """What a link lacks: its file, or the heading that its anchor names. Those of the web are not followed."""
    if re.match(r"[a-z]+:", target):
        return None
    name, _, anchor = target.partition("#")
    path = (page.path.parent / name).resolve() if name else page.path
    if name and not path.exists():
        return f"link {target}: there is no {name}"
    if not anchor:
        return None
    there = page if not name else Page(path, path.read_text(encoding="utf-8"))
    return None if anchor in there.anchors() else f"link {target}: there is no heading #{anchor}"


def names_path(code: str) -> bool:
    """Whether code in a line is a path of the repository: a file, a folder with its slash, or below one of its folders."""
    if not re.fullmatch(r"\.?[\w-][\w.-]*(/[\w.-]+)*/?", code):
        return False
    return code.endswith(("/", *FILES)) or ("/" in code and (ROOT / code.partition("/")[0]).is_dir())


def is_there(page: Page, code: str) -> bool:
    """Whether a path exists from the page's folder or from the root."""
    return any((base / code).is_dir() if code.endswith("/") else (base / code).exists() for base in (page.path.parent, ROOT))


@cache
def folder(name: str) -> bool:
    """Whether a folder of the repository has that name."""
    tops = [ROOT / top for top in ("service", "jobs", "tests", "docs", ".ci")]
    return any(path.is_dir() for top in tops for path in [top, *top.rglob(name)] if path.name == name.rstrip("/"))


def wrong_word(code: str) -> str | None:
    """What a module, an option or a setting in a line of text lacks."""
    if re.fullmatch(r"(jobs|service)(\.[a-z_]+)+(\.[A-Z_]\w*)?", code):
        module = re.sub(r"\.[A-Z_]\w*$", "", code)
        return None if module_exists(module) else f"{code}: there is no such module"
    if re.fullmatch(r"--[a-z][a-z-]+", code.partition(" ")[0]):
        option = code.partition(" ")[0]
        return None if option in all_options() else f"{option}: no command has this option"
    if re.fullmatch(r"DELAYLINE_[A-Z_0-9]+", code.partition("=")[0]):
        name = code.partition("=")[0]
        return None if name in settings() else f"{name}: nothing reads this variable"
    return None


def module_exists(name: str) -> bool:
    """Whether a module of ours can be found, without an error where its parent is none."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@cache
def settings() -> str:
    """All source text that may read a variable of the environment, in one."""
    folders = ("service", "jobs", "tests/support", "tests/service")
    sources = [path for top in folders for path in (ROOT / top).rglob("*.py")]
    own = " ".join(f"DELAYLINE_{name.upper()}" for name in importlib.import_module("service.settings").Settings.model_fields)
    return own + "".join(path.read_text(encoding="utf-8") for path in sources)


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


# Specs


def wrong_spec(block: str) -> str | None:
    """Why a YAML block that is a whole spec, of a run, a sweep or a recipe, is refused."""
    value = yaml.safe_load(block)
    if not isinstance(value, dict):
        return None
    for within in ("spec", "sweep"):
        if within in value:
            return wrong_spec(yaml.safe_dump(value[within]))
    kinds = {"dataset": recipes, "base": sweeps}
    kind = next((module for key, module in kinds.items() if key in value and len(value) > 2), None)
    if kind is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "spec.yaml"
        path.write_text(block, encoding="utf-8")
        try:
            kind.resolve(str(path), [], None, Path(scratch))
        except DelaylineError as error:
            return f"a spec is refused: {error}"
    return None


def parses(block: str) -> bool:
    """Whether a block is Python."""
    try:
        ast.parse(block)
    except SyntaxError:
        return False
    return True
