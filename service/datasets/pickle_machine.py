"""The machine that a pickle's instructions work on: a stack, marks, a memo, and the few names that plain data needs.

See service.datasets.plain_pickle for the instructions and for what is refused.
"""

import os
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn

import numpy as np

from service.errors import BadData

MOST_INSTRUCTIONS = 4_000_000
"""About 100 bytes of memory and 0.5 µs each (assumed); the training set of CIFAR-100 has 0.3 million."""
MOST_DIGITS = 40
"""Of a number that is written as text (derived: the 16 bytes of `MOST_NUMBER`)."""
MOST_NUMBER = 16
"""Bytes of a whole number (assumed: more than any count or seed)."""
RECONSTRUCT, NDARRAY, DTYPE = "numpy._reconstruct", "numpy.ndarray", "numpy.dtype"
ENCODE, BYTES = "_codecs.encode", "bytes"
_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): DTYPE,
    ("_codecs", "encode"): ENCODE,
    ("__builtin__", "bytes"): BYTES,
    ("builtins", "bytes"): BYTES,
}


class Global:
    """One of the names in `_KNOWN`; nothing is imported for it."""

    def __init__(self, name: str) -> None:
        self.name = name


class Kind:
    """A dtype, whose order of bytes comes after it."""

    def __init__(self, dtype: "np.dtype[Any]") -> None:
        self.dtype = dtype


class PickledArray:
    """An array, whose shape and bytes come after it."""

    value: Any = None


class PickleMachine:
    """The stack, the marks and the memo of a pickle that is being read."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self.size = stream.seek(0, os.SEEK_END)
        self.at = stream.seek(0)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._marks: list[int] = []
        self._stream = stream
        self._encoded = 0

    def run(self, actions: "Mapping[bytes, Callable[[PickleMachine], None]]") -> Any:
        """Do the pickle's instructions, each by its code; return its value; raise BadData for what is no plain data, other errors where it is damaged."""
        done = 0
        while (code := self.take(1)) != b".":
            act = actions.get(code)
            if act is None:
                self.refuse(f"uses the instruction {code!r}")
            if done == MOST_INSTRUCTIONS:
                self.refuse(f"has more than {MOST_INSTRUCTIONS} instructions")
            done += 1
            act(self)
        return _resolved(self.pop())

    def take(self, count: int) -> bytes:
        """The next bytes; none are promised room before it is known that the file has them."""
        if count > self.size - self.at:
            raise EOFError
        self.at += count
        return self._stream.read(count)

    def number(self, form: str) -> int:
        """The next bytes as a whole number."""
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def line(self) -> bytes:
        """The next bytes up to the end of their line."""
        line = self._stream.readline()
        self.at += len(line)
        if not line.endswith(b"\n"):
            raise EOFError
        return line[:-1]

    def digits(self) -> str:
        """A number as text."""
        line = self.line()
        if len(line) > MOST_DIGITS:
            raise ValueError("a number of so many digits")
        return line.decode("ascii")

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the last value, of those since the last mark."""
        if len(self.stack) <= (self._marks[-1] if self._marks else 0):
            raise IndexError("the stack is empty")
        return self.stack.pop()

    def mark(self) -> None:
        """Remember where the values of a container begin."""
        self._marks.append(len(self.stack))

    def since_mark(self) -> list[Any]:
        """Take the values since the last mark."""
        start = self._marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def remember(self, index: int) -> None:
        """Keep the last value under a number; the memo takes room for what is kept, not for its highest number."""
        self.memo[index] = self.stack[-1]

    def find(self, module: Any, name: Any) -> None:
        """Put one of the known names on the stack."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is no text")
        found = _KNOWN.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            self.refuse(f"wants to use {f'{module}.{name}'[:100]!r}")
        self.push(Global(found))

    def encode(self, text: str) -> bytes:
        """What Python 3 writes for bytes in old protocols; in all not more than the file has."""
        self._encoded += len(text)
        if self._encoded > self.size:
            self.refuse("repeats its texts")
        return text.encode("latin1")

    def refuse(self, what: str) -> NoReturn:
        """Raise BadData: this is no plain data."""
        raise BadData(
            f"{self.name}: the pickle {what} (near offset {self.at}), but only NumPy arrays and plain containers are read: "
            "do not trust this file."
        )


def _resolved(value: Any) -> Any:
    """A dictionary with its arrays; a value by itself as it is."""
    if isinstance(value, dict):
        return {key: _resolved(each) if isinstance(each, PickledArray) else each for key, each in value.items()}
    return value.value if isinstance(value, PickledArray) else value
