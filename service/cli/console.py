"""What all commands print: data on standard output, words for people on standard error."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from service.settings import wants_plain_text


def say(text: str) -> None:
    """A line for people; control characters, which could move a terminal's cursor, are replaced."""
    print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text without control characters, but with its line breaks and tabs."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, indent=2, allow_nan=False))


def print_yaml(document: Any, to_stderr: bool = False) -> None:
    """The document as people write it, without YAML's references to what stands in several places."""
    import yaml

    plain = json.loads(json.dumps(document))
    print(
        printable(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)).rstrip(),
        file=sys.stderr if to_stderr else sys.stdout,
    )


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell, for people and for pipes."""
    lines = [list(headings), *[[printable(cell).replace("\n", " ") for cell in row] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def is_live(stream: TextIO) -> bool:
    """Whether lines may be written over: on a terminal, unless NO_COLOR or TERM=dumb asks for plain text."""
    return stream.isatty() and not wants_plain_text()


def idle_words(seconds: float) -> str:
    """`no step for 12 min`."""
    return f"no step for {seconds:.0f} s" if seconds < 100 else f"no step for {seconds / 60:.0f} min"


def local_time(seconds: float | None) -> str:
    """A time since 1970 as this machine's clock shows it, or a dash."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def figures(metrics: dict[str, Any], names: Sequence[str] | None = None) -> str:
    """`loss 0.1234  accuracy 0.9700`, of all metrics or of those named that are there."""
    chosen = list(metrics) if names is None else [name for name in names if name in metrics]
    return "  ".join(f"{name} {_figure(metrics[name])}" for name in chosen)


def _figure(value: Any) -> str:
    """Four digits behind the point, or three that count where the number is so small that they would not."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if 0 < abs(value) < 0.01 else f"{value:.4f}"
