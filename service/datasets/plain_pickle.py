"""Pickles that hold plain data: containers, numbers, texts and NumPy arrays, read without Python's unpickler.

A pickle can call any function, and shared containers let a few bytes work for hours (as keys, for one: their hash doubles
with each level). Here every instruction does work for its own bytes alone: keys are texts, nothing is called, an array is a
view of bytes that stand in the file, and what is made out of a text (`_codecs.encode`) is counted.
"""

import codecs
import math
import os
import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

import numpy as np

from service.errors import BadData

MOST_INSTRUCTIONS = 4_000_000
"""About 100 bytes of memory and 0.5 µs each (assumed); the training set of CIFAR-100 has 0.3 million."""
MOST_DIGITS = 40
"""Of a number that is written as text (derived: the 16 bytes of `MOST_NUMBER`)."""
MOST_NUMBER = 16
_RECONSTRUCT, _NDARRAY, _DTYPE = "numpy._reconstruct", "numpy.ndarray", "numpy.dtype"
_ENCODE, _BYTES = "_codecs.encode", "bytes"
_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    ("_codecs", "encode"): _ENCODE,
    ("__builtin__", "bytes"): _BYTES,
    ("builtins", "bytes"): _BYTES,
}
_NUMERIC = re.compile(r"[|<>=]?[biufc][0-9]{1,2}")


class _Global:
    """One of the names in `_KNOWN`; nothing is imported for it."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Kind:
    """A dtype, whose order of bytes comes after it."""

    def __init__(self, dtype: "np.dtype[Any]") -> None:
        self.dtype = dtype


class _Array:
    """An array, whose shape and bytes come after it."""

    value: Any = None


class _Machine:
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

    def run(self) -> Any:
        """The value of the pickle; raise BadData for what is no plain data, other errors where it is damaged."""
        done = 0
        while (code := self.take(1)) != b".":
            act = _ACTIONS.get(code)
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
        self.push(_Global(found))

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


def read_pickle(stream: BinaryIO, name: str) -> tuple[Any, int]:
    """The value in a pickle, and the pickle's size in bytes; `name` names the file. Raise BadData."""
    machine = _Machine(stream, name)
    try:
        return machine.run(), machine.at
    except (EOFError, LookupError, ValueError, TypeError, AttributeError, struct.error, OverflowError) as error:
        raise BadData(
            f"{name}: the pickle is damaged near offset {machine.at} ({type(error).__name__}): fetch the file again."
        ) from error


def _resolved(value: Any) -> Any:
    """A dictionary with its arrays; a value by itself as it is."""
    if isinstance(value, dict):
        return {key: _resolved(each) if isinstance(each, _Array) else each for key, each in value.items()}
    return value.value if isinstance(value, _Array) else value


def _text_or_bytes(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value) if isinstance(value, str) else ""


def _integer(data: bytes) -> int:
    if len(data) > MOST_NUMBER:
        raise ValueError("a number of so many bytes")
    return int.from_bytes(data, "little", signed=True)


def _int_line(machine: _Machine) -> Any:
    text = machine.digits()
    return {"00": False, "01": True}[text] if text in ("00", "01") else int(text)


def _string_line(machine: _Machine) -> bytes:
    line = machine.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a string without its quotes")
    return bytes(codecs.escape_decode(line[1:-1])[0])


def _append(machine: _Machine, values: list[Any]) -> None:
    if not isinstance(machine.stack[-1], list):
        raise TypeError("no list to append to")
    machine.stack[-1].extend(values)


def _set_items(machine: _Machine, values: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, dict) or len(values) % 2:
        raise TypeError("no dictionary to fill")
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(key, (bytes, str)):
            machine.refuse(f"has a key that is a {type(key).__name__} and no text")
        target[key] = value


def _pair(machine: _Machine) -> list[Any]:
    value, key = machine.pop(), machine.pop()
    return [key, value]


def _make_dict(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.push({})
    _set_items(machine, values)


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def act(machine: _Machine) -> None:
        machine.push(tuple(reversed([machine.pop() for _ in range(count)])))

    return act


def _global_lines(machine: _Machine) -> None:
    module = machine.line().decode("utf-8")
    machine.find(module, machine.line().decode("utf-8"))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.find(module, name)


def _reduce(machine: _Machine) -> None:
    """What stands for a call in the pickles of arrays and of bytes."""
    arguments, called = machine.pop(), machine.pop()
    if not isinstance(arguments, tuple) or not isinstance(called, _Global):
        machine.refuse("calls what is no function that makes data")
    if called.name == _RECONSTRUCT and len(arguments) == 3:
        kind = arguments[0]
        if not isinstance(kind, _Global) or kind.name != _NDARRAY:
            machine.refuse("makes another array than a plain one")
        machine.push(_Array())
    elif called.name == _DTYPE and arguments:
        code = _text_or_bytes(arguments[0])
        if not _NUMERIC.fullmatch(code):
            machine.refuse(f"has an array of {code[:20] or 'something'!r}, which is no number")
        machine.push(_Kind(np.dtype(code)))
    elif called.name == _ENCODE and arguments and isinstance(arguments[0], str):
        if len(arguments) > 1 and _text_or_bytes(arguments[1]) not in ("latin1", "latin-1"):
            machine.refuse("encodes a text otherwise than as latin1")
        machine.push(machine.encode(arguments[0]))
    elif called.name == _BYTES and not arguments:
        machine.push(b"")
    else:
        machine.refuse(f"calls {called.name} with values that do not fit")


def _build(machine: _Machine) -> None:
    """Complete an array or a dtype by its state."""
    state, target = machine.pop(), machine.stack[-1]
    if not isinstance(state, tuple):
        raise TypeError("no state of an array")
    if isinstance(target, _Kind):
        if _text_or_bytes(state[1]) == ">":
            target.dtype = target.dtype.newbyteorder(">")
    elif isinstance(target, _Array):
        target.value = _array(machine, *state[1:5])
    else:
        machine.refuse("sets the state of what is no array")


def _array(machine: _Machine, shape: Any, kind: Any, by_columns: Any, data: Any) -> Any:
    if not isinstance(kind, _Kind) or not isinstance(data, bytes):
        machine.refuse("has an array of something else than numbers")
    if not isinstance(shape, tuple) or len(shape) > 32 or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("no shape of an array")
    if math.prod(shape) * kind.dtype.itemsize != len(data):
        machine.refuse(f"has {len(data)} bytes, into which arrays of the shape {shape} do not fit")
    return np.ndarray(shape, kind.dtype, data, order="F" if by_columns is True else "C")


def _pushes(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(make(machine))


_VALUES: dict[bytes, Callable[[_Machine], Any]] = {
    b"N": lambda _: None,
    b"\x88": lambda _: True,
    b"\x89": lambda _: False,
    b"I": _int_line,
    b"L": lambda machine: int(machine.digits().removesuffix("L")),
    b"F": lambda machine: float(machine.digits()),
    b"J": lambda machine: machine.number("<i"),
    b"K": lambda machine: machine.number("<B"),
    b"M": lambda machine: machine.number("<H"),
    b"G": lambda machine: struct.unpack(">d", machine.take(8))[0],
    b"\x8a": lambda machine: _integer(machine.take(machine.number("<B"))),
    b"\x8b": lambda machine: _integer(machine.take(min(machine.number("<I"), MOST_NUMBER + 1))),
    b"S": _string_line,
    b"U": lambda machine: machine.take(machine.number("<B")),
    b"T": lambda machine: machine.take(machine.number("<I")),
    b"C": lambda machine: machine.take(machine.number("<B")),
    b"B": lambda machine: machine.take(machine.number("<I")),
    b"\x8e": lambda machine: machine.take(machine.number("<Q")),
    b"V": lambda machine: machine.line().decode("raw-unicode-escape"),
    b"\x8c": lambda machine: machine.take(machine.number("<B")).decode("utf-8", "surrogatepass"),
    b"X": lambda machine: machine.take(machine.number("<I")).decode("utf-8", "surrogatepass"),
    b"\x8d": lambda machine: machine.take(machine.number("<Q")).decode("utf-8", "surrogatepass"),
    b"}": lambda _: {},
    b"]": lambda _: [],
    b")": lambda _: (),
    b"l": lambda machine: machine.since_mark(),
    b"t": lambda machine: tuple(machine.since_mark()),
    b"g": lambda machine: machine.memo[int(machine.digits())],
    b"h": lambda machine: machine.memo[machine.number("<B")],
    b"j": lambda machine: machine.memo[machine.number("<I")],
}
"""The instructions that put a value on the stack."""

_ACTIONS: dict[bytes, Callable[[_Machine], None]] = {
    **{code: _pushes(make) for code, make in _VALUES.items()},
    b"(": _Machine.mark,
    b"d": _make_dict,
    b"a": lambda machine: _append(machine, [machine.pop()]),
    b"e": lambda machine: _append(machine, machine.since_mark()),
    b"s": lambda machine: _set_items(machine, _pair(machine)),
    b"u": lambda machine: _set_items(machine, machine.since_mark()),
    b"\x85": _tuple_of(1),
    b"\x86": _tuple_of(2),
    b"\x87": _tuple_of(3),
    b"p": lambda machine: machine.remember(int(machine.digits())),
    b"q": lambda machine: machine.remember(machine.number("<B")),
    b"r": lambda machine: machine.remember(machine.number("<I")),
    b"\x94": lambda machine: machine.remember(len(machine.memo)),
    b"c": _global_lines,
    b"\x93": _stack_global,
    b"R": _reduce,
    b"b": _build,
    b"\x80": lambda machine: None if machine.number("<B") <= 5 else machine.refuse("is of a protocol that is not known"),
    # A frame is but a promise of so many bytes, which are instructions.
    b"\x95": lambda machine: None if machine.number("<Q") <= machine.size - machine.at else machine.refuse("ends within a frame"),
}
