"""Markdown pages of the repository: what they name, and what of it there is not."""

import ast
import importlib
import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from service import recipes
from service.cli.main import COMMANDS
from service.errors import DelaylineError
from service.recipes import sweeps
from support.printed import unknown_lines
from support.typed_commands import all_options, wrong_in_line

ROOT = Path(__file__).parents[2]
FILES = (".py", ".sh", ".md", ".toml", ".yaml", ".zip", ".css")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


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
    found += [f"{line}: nothing prints this" for block in page.blocks("console") for line in unknown_lines(block)]
    found += [f"{block[:60]!r} is no Python" for block in page.blocks("python") if not parses(block)]
    return found


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
    tops = [ROOT / top for top in ("service", "jobs", "k8s", "tests", "docs", ".ci")]
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
