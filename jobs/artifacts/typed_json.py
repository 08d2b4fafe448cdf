"""Python values as JSON that keeps their types: they come back equal, bit for bit, and nothing is unpickled.

A scalar of JSON stands for itself. All else is an object with one key, the tag of its type: `{"tuple": [1, 2]}`. Objects that can be
changed are numbered in the order in which they are met, so that one that stands twice comes back as one (`{"same": number}`), also
where it holds itself. Bytes are base64; those of large arrays stand apart, under a name, for a file of their own.
"""

import base64
import math
import struct
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.artifacts.typed_atoms import ATOMS, Unkept, atom_kind, dtype_from_json, dtype_to_json, type_name
from jobs.artifacts.typed_shapes import Shape, shape_of, shape_of_tag

Json = Any
Arrays = dict[str, NDArray[np.generic]]

APART = 16_384
"""Bytes from which an array goes to the file (assumed: as base64 in the manifest, which is read to look at a run, a few do no harm)."""
DEPTH = 100
"""Levels of nesting (assumed: no state of a callback is deeper; Python's own limit is 1,000 calls)."""
_NUMBER_BITS = 10_000
"""Bits of an integer that Python reads as decimals in any case; larger ones are written in hexadecimal."""


@dataclass(frozen=True)
class InPlace:
    """A kind of objects whose state can be taken and put into another such object, but which cannot be made here."""

    take: Callable[[Any], Any]
    put: Callable[[Any, Any], None]
    stateless: bool = False
    """Its state is kept elsewhere, or it has none: nothing is taken, and what stands there stays."""


Finder = Callable[[Any], InPlace | None]


@dataclass
class Encoder:
    """Encodes the values of one checkpoint; `arrays` gets the large ones. `in_place` knows the objects that are put back in place."""

    in_place: Finder = lambda value: None
    arrays: Arrays = field(default_factory=dict)
    _numbers: dict[int, tuple[int, Any]] = field(default_factory=dict)
    """Identity → number; with the object, so that it lives as long as its identity is remembered."""
    _open: list[int] = field(default_factory=list)
    """The unchangeable containers that are being encoded: one of them within itself has no end."""
    _depth: int = 0

    def encode(self, value: Any) -> Json:
        """`value` as JSON; raise Unkept, and forget what was numbered meanwhile."""
        numbers, arrays = len(self._numbers), len(self.arrays)
        try:
            return self._encode(value)
        except Unkept:
            for known in list(self._numbers)[numbers:]:
                del self._numbers[known]
            for name in list(self.arrays)[arrays:]:
                del self.arrays[name]
            self._open.clear()
            self._depth = 0
            raise

    def _encode(self, value: Any) -> Json:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if value.bit_length() < _NUMBER_BITS else {"int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
        if kind is str:
            return value if _is_unicode(value) else {"str": _base64(value.encode("utf-8", "surrogatepass"))}
        if id(value) in self._numbers:
            return {"same": self._numbers[id(value)][0]}
        with self._inside(value):
            return self._object(value)

    @contextmanager
    def _inside(self, value: Any) -> Any:
        if id(value) in self._open:
            raise Unkept(value, "it holds itself")
        if self._depth == DEPTH:
            raise Unkept(value, f"it is nested more than {DEPTH} levels deep")
        self._depth += 1
        yield
        self._depth -= 1

    def _object(self, value: Any) -> Json:
        atom = atom_kind(value)
        if atom is not None:
            return {atom.tag: self._encode(atom.write(value))}
        if isinstance(value, np.generic):
            return self._scalar(value)
        if type(value) is np.ndarray:
            return self._array(value)
        found = self.in_place(value)
        if found is not None:
            self._number(value)
            return (
                {"stays": type_name(value)}
                if found.stateless
                else {"in place": [type_name(value), self._encode(found.take(value))]}
            )
        shape = shape_of(value)
        if shape is None:
            raise Unkept(value)
        return self._container(shape, value)

    def _container(self, shape: Shape, value: Any) -> Json:
        if shape.fill is not None:
            self._number(value)
            return {shape.tag: [self._encode(part) for part in shape.parts(value)]}
        self._open.append(id(value))
        encoded = {shape.tag: [self._encode(part) for part in shape.parts(value)]}
        self._open.pop()
        # Numbered after its parts, as it is made: equal tuples within tuples would else be written twice at each level.
        self._number(value)
        return encoded

    def _number(self, value: Any) -> None:
        self._numbers[id(value)] = (len(self._numbers), value)

    def _scalar(self, value: np.generic) -> Json:
        array = np.asarray(value)
        if array.dtype.hasobject or value.dtype.type is not type(value):
            raise Unkept(value)
        return {"scalar": [dtype_to_json(array.dtype), _base64(array.tobytes())]}

    def _array(self, array: NDArray[Any]) -> Json:
        self._number(array)
        if array.dtype == object:
            return {"objects": [list(array.shape), *(self._encode(item) for item in array.ravel())]}
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        described = [dtype_to_json(array.dtype), list(array.shape), order]
        data = array.tobytes(order)  # type: ignore[arg-type]
        if len(data) < APART:
            return {"array": [*described, _base64(data)]}
        name = str(len(self.arrays))
        self.arrays[name] = np.frombuffer(data, np.uint8)
        return {"array": [*described, {"file": name}]}


@dataclass
class Decoder:
    """Makes the values that an Encoder wrote, in the same order."""

    in_place: Finder = lambda value: None
    arrays: Arrays = field(default_factory=dict)
    _objects: list[Any] = field(default_factory=list)

    def decode(self, encoded: Json, now: Any = None) -> Any:
        """The value; raise Unkept if it can no longer be made, or what a later one shares with such a one.

        `now` is what stands in its place, whose objects take up state that is put back in place.
        """
        first = len(self._objects)
        try:
            return self._decode(encoded, now)
        except (Unkept, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            self._objects[first:] = [_LOST] * _numbered(encoded)
            raise error if isinstance(error, Unkept) else Unkept(None, f"{type(error).__name__}: {error}") from error

    def _decode(self, encoded: Json, now: Any = None) -> Any:
        if not isinstance(encoded, dict):
            return encoded
        ((tag, content),) = encoded.items()
        if tag in _SCALARS:
            return _SCALARS[tag](content)
        if tag == "same":
            return self._known(content)
        if tag in ATOMS:
            return ATOMS[tag].read(self._decode(content))
        if tag == "scalar":
            return np.frombuffer(base64.b64decode(content[1]), dtype_from_json(content[0])).reshape(()).copy()[()]
        if tag == "array":
            return self._array(*content)
        if tag == "objects":
            return self._object_array(*content)
        if tag == "stays":
            self._objects.append(now)
            return now
        if tag == "in place":
            return self._put(content[0], content[1], now)
        return self._container(shape_of_tag(tag), content, now)

    def _known(self, number: int) -> Any:
        if self._objects[number] is _LOST:
            raise Unkept(None, "it shares a value with something that could not be made")
        return self._objects[number]

    def _container(self, shape: Shape, parts: list[Json], now: Any) -> Any:
        standing = shape.beside(now, parts)
        if shape.fill is None:
            made = shape.make([self._decode(part, beside) for part, beside in zip(parts, standing, strict=True)])
            self._objects.append(made)
            return made
        # Made before its parts, which may hold it.
        head, rest = parts[: shape.head], parts[shape.head :]
        number = len(self._objects)
        self._objects.append(None)
        made = self._objects[number] = shape.make([self._decode(part) for part in head])
        shape.fill(made, [self._decode(part, beside) for part, beside in zip(rest, standing[shape.head :], strict=True)])
        return made

    def _put(self, name: str, state: Json, now: Any) -> Any:
        self._objects.append(now)
        content = self._decode(state)
        found = None if now is None or type_name(now) != name else self.in_place(now)
        if found is None:
            raise Unkept(now, f"where its state belongs there is no {name} yet, but a {type_name(now)}")
        found.put(now, content)
        return now

    def _array(self, dtype: Json, shape: list[int], order: Any, data: Json) -> NDArray[Any]:
        kind = dtype_from_json(dtype)
        content = self.arrays[data["file"]].tobytes() if isinstance(data, dict) else base64.b64decode(data)
        flat = np.frombuffer(content, kind) if content else np.empty(0, kind)
        array = flat.reshape(shape, order=order).copy(order="K")
        self._objects.append(array)
        return array

    def _object_array(self, shape: list[int], *items: Json) -> NDArray[Any]:
        array = np.empty(shape, object)
        self._objects.append(array)
        flat = np.empty(len(items), object)
        for index, item in enumerate(items):
            flat[index] = self._decode(item)
        array[...] = flat.reshape(shape)
        return array


_LOST = object()


def _numbered(encoded: Json) -> int:
    """How many numbers the encoder gave within `encoded`."""
    if isinstance(encoded, list):
        return sum(map(_numbered, encoded))
    if not isinstance(encoded, dict):
        return 0
    ((tag, content),) = encoded.items()
    if tag in _SCALARS or tag in ("same", "scalar"):
        return 0
    if tag == "array":
        return 1
    return _numbered(content) + (tag not in ATOMS)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": lambda text: struct.unpack(">d", bytes.fromhex(text))[0],
    "str": lambda text: base64.b64decode(text).decode("utf-8", "surrogatepass"),
}
