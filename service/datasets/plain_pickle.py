"""Pickles that hold plain data: containers, numbers, texts and NumPy arrays, read without Python's unpickler.

A pickle can call any function, and shared containers let a few bytes work for hours (as keys, for one: their hash doubles
with each level). Here every instruction does work for its own bytes alone: keys are texts, nothing is called, an array is a
view of bytes in the file, and what is made out of a text (`_codecs.encode`) is counted.
"""

import codecs
import math
import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from service.datasets.pickle_machine import (
    BYTES,
    DTYPE,
    ENCODE,
    MOST_NUMBER,
    NDARRAY,
    RECONSTRUCT,
    Global,
    Kind,
    PickledArray,
    PickleMachine,
)
from service.errors import BadData

_NUMERIC = re.compile(r"[|<>=]?[biufc][0-9]{1,2}")


def read_pickle(stream: BinaryIO, name: str) -> tuple[Any, int]:
    """The value in a pickle, and the pickle's size in bytes; `name` names the file. Raise BadData."""
    machine = PickleMachine(stream, name)
    try:
        return machine.run(ACTIONS), machine.at
    except (EOFError, LookupError, ValueError, TypeError, AttributeError, struct.error, OverflowError) as error:
        raise BadData(
            f"{name}: the pickle is damaged near offset {machine.at} ({type(error).__name__}): fetch the file again."
        ) from error


def _text_or_bytes(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value) if isinstance(value, str) else ""


def _integer(data: bytes) -> int:
    if len(data) > MOST_NUMBER:
        raise ValueError("a number of so many bytes")
    return int.from_bytes(data, "little", signed=True)


def _int_line(machine: PickleMachine) -> Any:
    text = machine.digits()
    return {"00": False, "01": True}[text] if text in ("00", "01") else int(text)


def _string_line(machine: PickleMachine) -> bytes:
    line = machine.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a string without its quotes")
    return bytes(codecs.escape_decode(line[1:-1])[0])


def _append(machine: PickleMachine, values: list[Any]) -> None:
    if not isinstance(machine.stack[-1], list):
        raise TypeError("no list to append to")
    machine.stack[-1].extend(values)


def _set_items(machine: PickleMachine, values: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, dict) or len(values) % 2:
        raise TypeError("no dictionary to fill")
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(key, (bytes, str)):
            machine.refuse(f"has a key that is a {type(key).__name__} and no text")
        target[key] = value


def _pair(machine: PickleMachine) -> list[Any]:
    value, key = machine.pop(), machine.pop()
    return [key, value]


def _make_dict(machine: PickleMachine) -> None:
    values = machine.since_mark()
    machine.push({})
    _set_items(machine, values)


def _tuple_of(count: int) -> Callable[[PickleMachine], None]:
    def act(machine: PickleMachine) -> None:
        machine.push(tuple(reversed([machine.pop() for _ in range(count)])))

    return act


def _global_lines(machine: PickleMachine) -> None:
    module = machine.line().decode("utf-8")
    machine.find(module, machine.line().decode("utf-8"))


def _stack_global(machine: PickleMachine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.find(module, name)


def _reduce(machine: PickleMachine) -> None:
    """The calls in the pickles of arrays and of bytes."""
    arguments, called = machine.pop(), machine.pop()
    if not isinstance(arguments, tuple) or not isinstance(called, Global):
        machine.refuse("calls what is no function that makes data")
    if called.name == RECONSTRUCT and len(arguments) == 3:
        kind = arguments[0]
        if not isinstance(kind, Global) or kind.name != NDARRAY:
            machine.refuse("makes another array than a plain one")
        machine.push(PickledArray())
    elif called.name == DTYPE and arguments:
        code = _text_or_bytes(arguments[0])
        if not _NUMERIC.fullmatch(code):
            machine.refuse(f"has an array of {code[:20] or 'something'!r}, which is no number")
        machine.push(Kind(np.dtype(code)))
    elif called.name == ENCODE and arguments and isinstance(arguments[0], str):
        if len(arguments) > 1 and _text_or_bytes(arguments[1]) not in ("latin1", "latin-1"):
            machine.refuse("encodes a text otherwise than as latin1")
        machine.push(machine.encode(arguments[0]))
    elif called.name == BYTES and not arguments:
        machine.push(b"")
    else:
        machine.refuse(f"calls {called.name} with values that do not fit")


def _build(machine: PickleMachine) -> None:
    """Complete an array or a dtype by its state."""
    state, target = machine.pop(), machine.stack[-1]
    if not isinstance(state, tuple):
        raise TypeError("no state of an array")
    if isinstance(target, Kind):
        if _text_or_bytes(state[1]) == ">":
            target.dtype = target.dtype.newbyteorder(">")
    elif isinstance(target, PickledArray):
        target.value = _array(machine, *state[1:5])
    else:
        machine.refuse("sets the state of what is no array")


def _array(machine: PickleMachine, shape: Any, kind: Any, by_columns: Any, data: Any) -> Any:
    if not isinstance(kind, Kind) or not isinstance(data, bytes):
        machine.refuse("has an array of something else than numbers")
    if not isinstance(shape, tuple) or len(shape) > 32 or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("no shape of an array")
    if math.prod(shape) * kind.dtype.itemsize != len(data):
        machine.refuse(f"has {len(data)} bytes, into which arrays of the shape {shape} do not fit")
    return np.ndarray(shape, kind.dtype, data, order="F" if by_columns is True else "C")


def _pushes(make: Callable[[PickleMachine], Any]) -> Callable[[PickleMachine], None]:
    return lambda machine: machine.push(make(machine))


_VALUES: dict[bytes, Callable[[PickleMachine], Any]] = {
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

ACTIONS: dict[bytes, Callable[[PickleMachine], None]] = {
    **{code: _pushes(make) for code, make in _VALUES.items()},
    b"(": PickleMachine.mark,
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
