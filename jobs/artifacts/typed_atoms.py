"""Python values that cannot be changed, as a checkpoint keeps them: each is written as one simpler value, and made from it."""

import datetime
import decimal
import fractions
import json
import math
import operator
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf


class Unkept(Exception):
    """A value that cannot be kept, or no longer be made; `what` is its type."""

    def __init__(self, value: Any, why: str = "") -> None:
        super().__init__(why or f"a {type_name(value)} is among what checkpoints cannot keep")
        self.value = value
        self.why = why


def type_name(value: Any) -> str:
    """`my_nets.Window`, `deque`: the type of a value for people."""
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def _functions() -> dict[str, Any]:
    """The functions that a state may refer to by name, found by identity: a stored state can name no others."""
    arrays = {f"numpy.{name}": value for name, value in vars(np).items() if isinstance(value, np.ufunc)}
    sums = {f"numpy.{name}": vars(np)[name] for name in ("all", "any", "max", "mean", "median", "min", "std", "sum", "var")}
    simple = {value.__name__: value for value in (abs, all, any, len, max, min, round, sorted, sum)}
    public = {
        f"{module}.{name}": value
        for module, functions in (("math", math), ("operator", operator), ("keras.ops", keras.ops))
        for name, value in vars(functions).items()
        if callable(value) and not isinstance(value, type) and not name.startswith("_")
    }
    return arrays | sums | simple | public


FUNCTIONS = _functions()
_FUNCTION_NAMES = {id(value): name for name, value in FUNCTIONS.items()}


@dataclass(frozen=True)
class Atom:
    """A type whose values are made from one simpler value, and cannot be changed."""

    tag: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _read_time(parts: tuple[Any, ...]) -> datetime.time:
    return datetime.time(*parts[:-1], fold=parts[-1])


def _read_datetime(parts: tuple[Any, ...]) -> datetime.datetime:
    return datetime.datetime(*parts[:-1], fold=parts[-1])


_ATOM_TYPES: dict[type, Atom] = {
    bytes: Atom("bytes", lambda v: np.frombuffer(v, np.uint8), lambda v: v.tobytes()),
    complex: Atom("complex", lambda v: (v.real, v.imag), lambda v: complex(*v)),
    range: Atom("range", lambda v: (v.start, v.stop, v.step), lambda v: range(*v)),
    slice: Atom("slice", lambda v: (v.start, v.stop, v.step), lambda v: slice(*v)),
    type(...): Atom("ellipsis", lambda v: None, lambda v: ...),
    datetime.date: Atom("date", lambda v: (v.year, v.month, v.day), lambda v: datetime.date(*v)),
    datetime.time: Atom("time", lambda v: (v.hour, v.minute, v.second, v.microsecond, v.tzinfo, v.fold), _read_time),
    datetime.datetime: Atom(
        "datetime",
        lambda v: (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond, v.tzinfo, v.fold),
        _read_datetime,
    ),
    datetime.timedelta: Atom("timedelta", lambda v: (v.days, v.seconds, v.microseconds), lambda v: datetime.timedelta(*v)),
    datetime.timezone: Atom("timezone", lambda v: v.__getinitargs__(), lambda v: datetime.timezone(*v)),
    zoneinfo.ZoneInfo: Atom("zone", lambda v: v.key, zoneinfo.ZoneInfo),
    decimal.Decimal: Atom("decimal", str, decimal.Decimal),
    fractions.Fraction: Atom("fraction", lambda v: (v.numerator, v.denominator), lambda v: fractions.Fraction(*v)),
    uuid.UUID: Atom("uuid", lambda v: v.hex, uuid.UUID),
    pathlib.PurePosixPath: Atom("pure path", str, pathlib.PurePosixPath),
    pathlib.PosixPath: Atom("path", str, pathlib.PosixPath),
    # str() of it drops zeros at its end.
    np.str_: Atom("numpy str", "".join, np.str_),
    np.bytes_: Atom("numpy bytes", bytes, np.bytes_),
}
_DTYPE = Atom("dtype", lambda v: json.dumps(dtype_to_json(v)), lambda v: dtype_from_json(json.loads(v)))
_FUNCTION = Atom("function", lambda v: _FUNCTION_NAMES[id(v)], lambda v: FUNCTIONS[v])
_TENSOR = Atom("tensor", lambda v: v.numpy(), tf.constant)
ATOMS = {atom.tag: atom for atom in (*_ATOM_TYPES.values(), _DTYPE, _FUNCTION, _TENSOR)}


def atom_kind(value: Any) -> Atom | None:
    """How a value that cannot be changed is written, if it is one."""
    if isinstance(value, np.dtype):
        return _DTYPE
    if isinstance(value, tf.Tensor) and hasattr(value, "numpy"):
        return _TENSOR
    return _FUNCTION if id(value) in _FUNCTION_NAMES else _ATOM_TYPES.get(type(value))


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """An array's type as JSON; raise Unkept for one that holds objects or text of any length."""
    named = getattr(ml_dtypes, dtype.name, None)
    if isinstance(named, type) and np.dtype(named) == dtype:
        return {"ml_dtypes": dtype.name}
    if not dtype.hasobject and dtype.itemsize:
        described = json.loads(json.dumps(np.lib.format.dtype_to_descr(dtype)))
        try:
            if dtype_from_json(described) == dtype:
                return described
        except (TypeError, ValueError):
            pass
    raise Unkept(dtype, f"an array's dtype {dtype} cannot be written")


def dtype_from_json(described: Any) -> np.dtype[Any]:
    """What `dtype_to_json` was given."""
    if isinstance(described, dict):
        named: np.dtype[Any] = np.dtype(getattr(ml_dtypes, described["ml_dtypes"]))
        return named
    return np.dtype(np.lib.format.descr_to_dtype(_fields(described)))


def _fields(described: Any) -> Any:
    if isinstance(described, str):
        return described
    return [
        (tuple(name) if isinstance(name, list) else name, _fields(kind), *(tuple(shape) for shape in rest))
        for name, kind, *rest in described
    ]
