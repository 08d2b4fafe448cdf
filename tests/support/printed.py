"""Whether the program can print a line that a page shows: what happened to a run, and errors."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEAST_LETTERS = 8
"""Of a message around what is filled in: those with fewer, such as f"{count} and {noun}", would fit anything."""


def unknown_lines(block: str) -> Iterator[str]:
    """The events (lines that begin with a time) and errors of a `console` block that no message of the program fits."""
    for line in block.splitlines():
        found = re.match(r"(?:\d\d:\d\d:\d\d|Error:) (.+?)(?: {2,}#.*)?$", line)
        if found and not fits(found[1]):
            yield line


def fits(line: str) -> bool:
    """Whether a message of the program makes the line, or two, with a colon between them."""
    if any(message.fullmatch(line) for message in messages()):
        return True
    head, colon, rest = line.partition(": ")
    return bool(colon) and fits(head) and fits(rest.removesuffix("."))


@cache
def messages() -> list[re.Pattern[str]]:
    """Every text in the sources, as a pattern in which what is filled in may be anything."""
    found = set()
    for path in (path for top in ("service", "jobs") for path in (ROOT / top).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            values = node.values if isinstance(node, ast.JoinedStr) else [node] if id(node) not in parts else []
            fixed = [part.value for part in values if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            if len(fixed) == len(values) or sum(letter.isalpha() for text in fixed for letter in text) >= LEAST_LETTERS:
                found.add("".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".*" for part in values))
    return [re.compile(pattern, re.DOTALL) for pattern in found]
