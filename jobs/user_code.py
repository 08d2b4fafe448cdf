"""A user's own code: how it is found and called, and which lines of a stack are theirs."""

import importlib
import os
import re
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import keras

from service.errors import UserFailure
from service.user_folder import use_folder

_OURS = tuple(f"{Path(__file__).parents[1] / package}{os.sep}" for package in ("jobs", "service"))
"""Each with its separator: a user's `jobs_mine/` beside them is theirs."""
_LIBRARIES = tuple(sorted({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}))


def load_user_function(reference: str, folder: str | None) -> Callable[..., Any]:
    """Import `my_package.nets:build` from `folder` or the installed packages; raise UserFailure."""
    module_name, _, function_name = reference.partition(":")
    if folder:
        use_folder(module_name, folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UserFailure(f"The module {module_name!r} cannot be imported: {describe(error)}.", user_traceback(error)) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        there = sorted(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))
        raise UserFailure(
            f"The module {module_name!r} has no function {function_name!r}: it has {', '.join(there[:10]) or 'none'}; correct the spec or the module."
        )
    return function  # type: ignore[no-any-return]


def call_build(build: Callable[..., Any], reference: str, shape: Any, classes: int, params: Mapping[str, Any]) -> keras.Model:
    """Call a user's `build(input_shape, classes, **model_params)`; raise UserFailure with their own stack lines."""
    try:
        return build(shape, classes, **params)
    except Exception as error:
        own = user_traceback(error)
        hint = "" if own else f" (it is called as build(input_shape, classes{''.join(f', {name}=…' for name in params)}))"
        raise UserFailure(f"{reference} failed: {describe(error)}{hint}.", own) from error


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NOISE = (
    "Graph execution error",
    "Detected at",
    "Traceback",
    "[[{{node",
    "in user code",
)


def telling_line(error: BaseException) -> str:
    """The first line of an exception's text that says something; empty if none does.

    TensorFlow puts the graph's stack before it, Keras the layer's name, in colours.
    """
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines() if line.strip()]
    for before, line in zip(["", *lines], lines, strict=False):
        # Below each line of a stack stands the source that it names.
        in_stack = line.startswith('File "') or before.startswith('File "')
        if not in_stack and not line.startswith(_NOISE) and "Exception encountered when calling" not in line:
            return line.removeprefix(f"{type(error).__name__}: ")
    return lines[0] if lines else ""


def describe(error: BaseException) -> str:
    """`Type: the line of its text that says something`."""
    line = telling_line(error)
    return f"{type(error).__name__}: {line[:300]}" if line else type(error).__name__


def user_traceback(error: BaseException) -> str:
    """The stack lines of an exception, or of its causes, that are in the user's files; empty if none is."""
    seen: list[str] = []
    current: BaseException | None = error
    while current is not None:
        own = [frame for frame in _frames(current.__traceback__) if is_users(frame.filename)]
        if own:
            lines = "".join(traceback.format_list(own))
            seen.append(f"{lines}{type(current).__name__}: {current}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(reversed(seen))


def is_users(filename: str) -> bool:
    """Whether a source file is neither Delayline's nor a library's."""
    if filename.startswith("<") or "site-packages" in filename or "__autograph_generated" in filename:
        return False
    return not filename.startswith((*_OURS, *_LIBRARIES))


def _frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(trace))
