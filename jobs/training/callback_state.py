"""What checkpoints keep of callbacks: their attributes with their types, or what their `get_state` gives; and what they cannot keep."""

import inspect
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from logging import Logger
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from jobs.artifacts.checkpoints import Snapshot
from jobs.artifacts.tensors import Tensors
from jobs.artifacts.typed_atoms import Unkept, type_name
from jobs.artifacts.typed_json import Decoder, Encoder, InPlace
from jobs.artifacts.typed_shapes import attributes_of
from jobs.user_code import describe, user_traceback
from service.errors import UserFailure
from service.records.run_record import Document

Tell = Callable[..., None]
"""Called as `event(event, message, **details)`."""

_BOUND = (
    Logger,
    ModuleType,
    type,
    FunctionType,
    BuiltinFunctionType,
    MethodType,
    type(threading.Lock()),
    type(threading.RLock()),
)
"""Types without a state that training changes: nothing is lost while the attribute is the object that it was in the beginning."""

_REMADE: dict[type, frozenset[str]] = {keras.callbacks.CSVLogger: frozenset({"csv_file", "writer", "append_header"})}
"""Attributes that Keras' own callbacks make in `on_train_begin`, from the file that they find."""

_HAVE_VARIABLES = (keras.metrics.Metric, keras.random.SeedGenerator, keras.layers.Layer, keras.optimizers.Optimizer)

_REMEDY = (
    "give the callback get_state() and set_state(state), which return and take numbers, texts, arrays and containers of them, "
    "or keep them in attributes of such types"
)


@dataclass
class CallbackStates:
    """The states of a run's callbacks, in their order. `tell` says what cannot be kept, once in a run."""

    callbacks: list[keras.callbacks.Callback]
    tell: Tell = lambda *_, **__: None
    _first: list[dict[str, Any]] = field(default_factory=list)
    """The attributes after `on_train_begin`, before those of a checkpoint are put back."""
    _told: set[str] = field(default_factory=set)

    def begin(self, snapshot: Snapshot | None = None) -> None:
        """Put back what a checkpoint kept, if there is one; `on_train_begin` was called already."""
        self._first = [attributes_of(callback) for callback in self.callbacks]
        kept = snapshot.position["callbacks"] if snapshot else []
        if snapshot is None or isinstance(kept, list):
            for callback, state in zip(self.callbacks, kept, strict=bool(kept)):
                _put_plain(callback, state)
            return
        self._told = set(kept["told"])
        decoder = Decoder(self._in_place, snapshot.callbacks)
        for index, (callback, state) in enumerate(zip(self.callbacks, kept["states"], strict=True)):
            self._put(decoder, index, callback, state)
        if kept["random"] is not None:
            python, numpy = decoder.decode(kept["random"])
            random.setstate(python)
            np.random.set_state(numpy)

    def take(self) -> tuple[Document, Tensors]:
        """The JSON that a checkpoint's position holds as `callbacks`, and the large arrays that stand apart."""
        encoder = Encoder(self._in_place)
        states = [self._take(encoder, index, callback) for index, callback in enumerate(self.callbacks)]
        # A callback may draw from the process's shared generators.
        shared = encoder.encode((random.getstate(), np.random.get_state(legacy=False))) if self.callbacks else None
        return {"states": states, "random": shared, "told": sorted(self._told)}, encoder.arrays

    def _take(self, encoder: Encoder, index: int, callback: keras.callbacks.Callback) -> Document:
        if _keeps_own_state(callback):
            try:
                return {"own": encoder.encode(_call(callback, "get_state"))}
            except Unkept as unkept:
                self._tell_own(index, callback, unkept)
                return {}
        kept, lost = {}, []
        first = self._first[index] if self._first else {}
        for name, value in attributes_of(callback).items():
            if name in _remade(callback) or value is callback.model:
                continue
            try:
                kept[name] = encoder.encode(value)
            except Unkept as unkept:
                if not (isinstance(value, _BOUND) and name in first and first[name] == value):
                    lost.append((name, _what(value, unkept)))
        self._tell_attributes(index, callback, lost)
        return {"attributes": kept}

    def _put(self, decoder: Decoder, index: int, callback: keras.callbacks.Callback, state: Document) -> None:
        if "own" in state:
            try:
                own = decoder.decode(state["own"])
            except Unkept as unkept:
                self._tell_lost(callback, "what get_state() returned", unkept)
            else:
                _call(callback, "set_state", own)
        first = self._first[index]
        for name, encoded in state.get("attributes", {}).items():
            try:
                value = decoder.decode(encoded, first.get(name))
            except Unkept as unkept:
                self._tell_lost(callback, f"its attribute {name}", unkept)
            else:
                _set(callback, name, value)

    def _in_place(self, value: Any) -> InPlace | None:
        """How the state of an object that cannot be made anew is taken from it and put into the one that stands in its place."""
        if isinstance(value, keras.Variable | tf.Variable):
            return InPlace(lambda v: v.numpy(), _assign, stateless=id(value) in self._trained())
        if isinstance(value, _HAVE_VARIABLES):
            return InPlace(
                lambda v: [variable.numpy() for variable in self._own(v)],
                lambda v, contents: _assign_all(v, self._own(v), contents),
                stateless=not self._own(value),
            )
        if _keeps_own_state(value):
            return InPlace(lambda v: _call(v, "get_state"), lambda v, state: _call(v, "set_state", state))
        return None

    def _own(self, value: Any) -> list[Any]:
        """The variables of a metric, layer, model or optimizer that are not those of the trained model."""
        variables = [value.state] if isinstance(value, keras.random.SeedGenerator) else value.variables
        trained = self._trained()
        return [variable for variable in variables if id(variable) not in trained]

    def _trained(self) -> set[int]:
        model = self.callbacks[0].model
        return {id(v) for v in (*getattr(model, "variables", ()), *getattr(getattr(model, "optimizer", None), "variables", ()))}

    def _tell_own(self, index: int, callback: keras.callbacks.Callback, unkept: Unkept) -> None:
        if (key := f"{index}.get_state()") not in self._told:
            self._told.add(key)
            self.tell(
                "callback state",
                f"checkpoints cannot keep what get_state() of the callback {type_name(callback)} returns ({unkept}): a resumed run "
                "begins with it as it is made; return numbers, texts, arrays and containers of them",
                callback=type_name(callback),
            )

    def _tell_attributes(self, index: int, callback: keras.callbacks.Callback, lost: list[tuple[str, str]]) -> None:
        new = [(name, what) for name, what in lost if f"{index}.{name}" not in self._told]
        if new:
            self._told |= {f"{index}.{name}" for name, _ in new}
            shown = ", ".join(f"{name} ({what})" for name, what in new)
            self.tell(
                "callback state",
                f"checkpoints cannot keep of the callback {type_name(callback)}: {shown}; a resumed run has them as on_train_begin "
                f"leaves them: {_REMEDY}",
                callback=type_name(callback),
                attributes=[name for name, _ in new],
            )

    def _tell_lost(self, callback: keras.callbacks.Callback, what: str, unkept: Unkept) -> None:
        self.tell(
            "callback state",
            f"the callback {type_name(callback)} resumes without {what} of the checkpoint ({unkept}): it has what on_train_begin sets",
            callback=type_name(callback),
        )


def _what(value: Any, unkept: Unkept) -> str:
    """`mine.Window`, or `list, which holds a mine.Window`; and why, where the type does not say so."""
    inner = "" if unkept.value is value else f", which holds a {type_name(unkept.value)}"
    return f"{type_name(value)}{inner}" + (f": {unkept.why}" if unkept.why else "")


def _remade(callback: keras.callbacks.Callback) -> frozenset[str]:
    return frozenset().union(*(names for kind, names in _REMADE.items() if isinstance(callback, kind)))


def _set(callback: keras.callbacks.Callback, name: str, value: Any) -> None:
    # Beside a property or a __setattr__ of the class, which may do more than keep the value.
    if any(name in getattr(kind, "__slots__", ()) for kind in type(callback).__mro__):
        object.__setattr__(callback, name, value)
    else:
        vars(callback)[name] = value


def _keeps_own_state(value: Any) -> bool:
    """Whether `get_state()` and `set_state(state)` can be called so; others of these names are something else."""
    if isinstance(value, type):
        return False
    for name, arguments in (("get_state", ()), ("set_state", (None,))):
        method = getattr(value, name, None)
        try:
            inspect.signature(method).bind(*arguments)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return False
    return True


def _call(value: Any, name: str, *arguments: Any) -> Any:
    try:
        return getattr(value, name)(*arguments)
    except Exception as error:
        raise UserFailure(f"{type_name(value)}.{name} failed: {describe(error)}.", user_traceback(error)) from error


def _assign(variable: Any, content: Any) -> None:
    if tuple(variable.shape) != np.shape(content):
        raise Unkept(variable, f"its shape is {tuple(variable.shape)} now, no longer {np.shape(content)}")
    variable.assign(content)


def _assign_all(value: Any, variables: list[Any], contents: list[Any]) -> None:
    if len(variables) != len(contents):
        raise Unkept(value, f"it has {len(variables)} variables now, no longer {len(contents)}")
    for variable, content in zip(variables, contents, strict=True):
        _assign(variable, content)


def _put_plain(callback: keras.callbacks.Callback, state: Document) -> None:
    """Put back attributes as they were kept before they had types: what is an array or a tuple now is made one again."""
    for name, encoded in state.items():
        now = getattr(callback, name, None)
        if isinstance(encoded, dict):
            value = float(encoded["float"]) if "float" in encoded else getattr(keras.ops, encoded["ops"])
        elif isinstance(now, np.ndarray):
            value = np.asarray(encoded[0], now.dtype)
        elif isinstance(now, np.generic | tuple) and encoded[0] is not None:
            value = type(now)(encoded[0])
        else:
            value = encoded[0]
        setattr(callback, name, value)
