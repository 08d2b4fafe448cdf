"""Python values that hold others, as a checkpoint keeps them: each is taken apart, and made again from its parts."""

import collections
import dataclasses
import enum
import random
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.artifacts.typed_atoms import Unkept

Parts = list[Any]


def _none(now: Any, parts: Parts) -> Parts:
    return [None] * len(parts)


@dataclass(frozen=True)
class Shape:
    """A type whose values are made from parts: from the first `head` of them, then filled with the others.

    `fill` is None for what cannot be changed: it is made from all of its parts. `beside` gives for each part what stands in its place
    in another such value, or None.
    """

    tag: str
    parts: Callable[[Any], Parts]
    make: Callable[[Parts], Any]
    fill: Callable[[Any, Parts], Any] | None = None
    head: int = 0
    beside: Callable[[Any, Parts], Parts] = _none


def shape_of_tag(tag: str) -> Shape:
    """Return the shape that a tag names; raise Unkept for a tag of a newer version."""
    if tag not in _SHAPES:
        raise Unkept(None, f"another version of Delayline wrote it, as a {tag[:40]!r}")
    return _SHAPES[tag]


def shape_of(value: Any) -> Shape | None:
    """Return how to take a value apart, if it can be; a subclass may hold more than is seen, and has no shape of its base."""
    kind = type(value)
    if kind in _SHAPE_TYPES:
        return _SHAPE_TYPES[kind]
    if isinstance(value, enum.Enum):
        shape = _ENUM
    elif isinstance(value, tuple) and hasattr(kind, "_fields") and kind.__bases__ == (tuple,):
        shape = _NAMED_TUPLE
    elif dataclasses.is_dataclass(value) and _is_plain(kind):
        shape = _DATA_CLASS
    else:
        return None
    return shape if _class(kind.__module__, kind.__qualname__) is kind else None


def _pairs(items: Iterable[tuple[Any, Any]]) -> Parts:
    return [part for pair in items for part in pair]


def _put_pairs(made: Any, parts: Parts) -> None:
    for key, value in zip(parts[::2], parts[1::2], strict=True):
        made[key] = value


def _beside_items(now: Any, parts: Parts) -> Parts:
    same = isinstance(now, list | tuple) and len(now) == len(parts)
    return list(now) if same else [None] * len(parts)


def _beside_keys(now: Any, parts: Parts) -> Parts:
    known = now if isinstance(now, dict) else {}
    return _pairs((None, None if isinstance(key, dict) else known.get(key)) for key in parts[::2])


def attributes_of(value: Any) -> dict[str, Any]:
    """Return what an object holds by name, slots included."""
    slots = [name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)]
    return {**getattr(value, "__dict__", {}), **{name: getattr(value, name) for name in slots}}


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _put_attributes(made: Any, parts: Parts) -> None:
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        object.__setattr__(made, name, value)


def _beside_attributes(now: Any, parts: Parts) -> Parts:
    known = {} if now is None else attributes_of(now)
    return [None, None, *_pairs((None, known.get(name)) for name in parts[2::2])]


def _class(module: str, name: str) -> Any:
    """Return a class of a module that is loaded already: a stored name imports nothing."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _known_class(parts: Parts, fits: Callable[[type], bool]) -> Any:
    kind = _class(parts[0], parts[1])
    if not isinstance(kind, type) or not fits(kind):
        raise Unkept(None, f"there is no class {parts[0]}.{parts[1]} any more, or it is of another kind")
    return kind


def _class_parts(value: Any) -> Parts:
    return [type(value).__module__, type(value).__qualname__]


def _make_enum(parts: Parts) -> Any:
    kind = _known_class(parts, lambda kind: issubclass(kind, enum.Enum))
    if parts[2] in kind.__members__:
        return kind.__members__[parts[2]]
    try:
        return kind(parts[3])
    except ValueError as error:
        raise Unkept(None, f"the class {parts[0]}.{parts[1]} has no {str(parts[2])[:60]} any more") from error


def _make_named_tuple(parts: Parts) -> Any:
    kind = _known_class(parts, lambda kind: issubclass(kind, tuple) and len(getattr(kind, "_fields", ())) == len(parts) - 2)
    return tuple.__new__(kind, parts[2:])


def _make_data_class(parts: Parts) -> Any:
    return object.__new__(_known_class(parts, lambda kind: dataclasses.is_dataclass(kind) and _is_plain(kind)))


def _is_plain(kind: Any) -> bool:
    """Whether nothing but attributes makes an object of this class what it is."""
    return kind.__new__ is object.__new__


_ENUM = Shape("enum", lambda v: [*_class_parts(v), v.name, v.value], _make_enum)
_NAMED_TUPLE = Shape(
    "named tuple",
    lambda v: [*_class_parts(v), *v],
    _make_named_tuple,
    beside=lambda now, parts: [None, None, *_beside_items(now, parts[2:])],
)
_DATA_CLASS = Shape(
    "data class",
    lambda v: [*_class_parts(v), *_pairs(attributes_of(v).items())],
    _make_data_class,
    _put_attributes,
    2,
    _beside_attributes,
)

_FACTORIES: dict[str, Any] = {
    kind.__name__: kind for kind in (bool, dict, float, int, list, set, str, tuple, collections.Counter)
}


def _factory_parts(value: Any) -> Parts:
    factory = value.default_factory
    if factory is not None and _FACTORIES.get(getattr(factory, "__name__", "")) is not factory:
        raise Unkept(value, "what makes its missing values is none of Python's own types")
    return [None if factory is None else factory.__name__, *_pairs(value.items())]


def _mapping(tag: str, kind: Callable[[], Any]) -> Shape:
    return Shape(tag, lambda v: _pairs(v.items()), lambda head: kind(), _put_pairs, 0, _beside_keys)


def _bit_generator_parts(value: Any) -> Parts:
    seeds = value.seed_seq
    return [seeds if type(seeds) is np.random.SeedSequence else None, value.state]


def _bit_generator(kind: Any) -> Shape:
    def fill(made: Any, parts: Parts) -> None:
        made.state = parts[0]

    # Without its seeds it would draw what comes next alike, but not spawn alike.
    return Shape(kind.__name__, _bit_generator_parts, lambda head: kind(0 if head[0] is None else head[0]), fill, 1)


def _seeds(parts: Parts) -> np.random.SeedSequence:
    entropy, spawned, size, children = parts
    return np.random.SeedSequence(entropy, spawn_key=spawned, pool_size=size, n_children_spawned=children)


def _random_state_parts(value: Any) -> Parts:
    state = value.get_state(legacy=False)
    return [state["bit_generator"], state]


def _random_state(head: Parts) -> np.random.RandomState:
    return np.random.RandomState({kind.__name__: kind for kind in _BIT_GENERATORS}[head[0]]())


_BIT_GENERATORS: tuple[Any, ...] = (
    np.random.MT19937,
    np.random.PCG64,
    np.random.PCG64DXSM,
    np.random.Philox,
    np.random.SFC64,
)
_SHAPE_TYPES: dict[type, Shape] = {
    list: Shape("list", list, lambda head: [], lambda made, parts: made.extend(parts), 0, _beside_items),
    tuple: Shape("tuple", list, tuple, beside=_beside_items),
    set: Shape("set", list, lambda head: set(), lambda made, parts: made.update(parts)),
    frozenset: Shape("frozenset", list, frozenset),
    dict: _mapping("dict", dict),
    collections.OrderedDict: _mapping("ordered dict", collections.OrderedDict),
    collections.Counter: _mapping("counter", collections.Counter),
    collections.defaultdict: Shape(
        "default dict",
        _factory_parts,
        lambda head: collections.defaultdict(None if head[0] is None else _FACTORIES[head[0]]),
        _put_pairs,
        1,
        lambda now, parts: [None, *_beside_keys(now, parts[1:])],
    ),
    collections.deque: Shape(
        "deque",
        lambda v: [v.maxlen, *v],
        lambda head: collections.deque(maxlen=head[0]),
        lambda made, parts: made.extend(parts),
        1,
    ),
    bytearray: Shape("bytearray", lambda v: [bytes(v)], lambda head: bytearray(), lambda made, parts: made.extend(parts[0])),
    types.SimpleNamespace: Shape(
        "namespace", lambda v: _pairs(vars(v).items()), lambda head: types.SimpleNamespace(), _put_attributes
    ),
    random.Random: Shape(
        "random",
        lambda v: [v.getstate()],
        lambda head: random.Random(),  # noqa: S311 (a user's own, as it was)
        lambda made, parts: made.setstate(parts[0]),
    ),
    np.random.Generator: Shape("generator", lambda v: [v.bit_generator], lambda head: np.random.Generator(*head), _none, 1),
    np.random.SeedSequence: Shape(
        "seeds", lambda v: [v.entropy, tuple(v.spawn_key), v.pool_size, v.n_children_spawned], _seeds, _none, 4
    ),
    np.random.RandomState: Shape(
        "random state", _random_state_parts, _random_state, lambda made, parts: made.set_state(parts[0]), 1
    ),
    **{kind: _bit_generator(kind) for kind in _BIT_GENERATORS},
}
_SHAPES = {shape.tag: shape for shape in (*_SHAPE_TYPES.values(), _ENUM, _NAMED_TUPLE, _DATA_CLASS)}
