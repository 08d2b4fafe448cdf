"""Starts a model from another's weights: decides which layers take them, which stay new, and which are frozen."""

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import keras
from safetensors import SafetensorError

from jobs.artifacts.keras_files import check_keras_file
from jobs.artifacts.tensors import tensors_from_bytes
from jobs.training.variables import GLOBAL_STREAM
from jobs.user_code import describe
from service.errors import BadData, Damaged, InvalidInput, NotFound
from service.records.run_record import Document
from service.records.submission_schemas import FirstWeights
from service.scratch import ScratchFolder
from service.specs.train import ALL_BUT_HEAD
from service.storage.base import Store

T = TypeVar("T")
Layers = dict[str, dict[str, T]]
"""A layer's name within its model, then the name of each of its variables; in the order of the model."""
_POSITION = re.compile(r"(\d{5}) (?=.)")
_NUMBER = re.compile(r"_\d+(?=/|\Z)")


@dataclass(frozen=True)
class Start:
    """How a model began: the layers whose weights were taken over, those that are new, each with the reason."""

    weights: FirstWeights
    sha256: str
    taken: tuple[str, ...]
    new: dict[str, str]

    @property
    def message(self) -> str:
        """Describe it in one line."""
        fresh = "; new: " + ", ".join(f"{name} ({why})" for name, why in self.new.items()) if self.new else ""
        return f"starts from {self.weights}: takes over {_listed(self.taken)}{fresh}"

    def document(self) -> Document:
        """Return the details of the event `initialised`."""
        source = {name: value for name, value in self.weights.document().items() if name != "classes"}
        return {**source, "sha256": self.sha256, "taken": list(self.taken), "new": self.new}


def freeze_layers(model: keras.Model, patterns: Sequence[str]) -> None:
    """Let the layers that `patterns` name keep their weights; batch normalisation among them keeps its statistics too.

    To be called before the optimizer is built. Raise InvalidInput for a pattern that names no layer with weights.
    """
    layers = model_layers(model)
    names = frozen_names(list(layers), patterns)
    frozen = {id(variable) for name in names for variable in layers[name].values()}
    for variable in (variable for name in names for variable in layers[name].values()):
        variable.trainable = False
    # The flag of the layer, not of its variables, puts batch normalisation into inference mode.
    for layer in model._flatten_layers(include_self=False) if names else []:
        weights = [variable for variable in layer.variables if not _is_seed(variable.path)]
        if weights and all(id(variable) in frozen for variable in weights):
            layer.trainable = False
    if names and not model.trainable_variables:
        raise InvalidInput(f"freeze={list(patterns)} leaves nothing to train: name fewer layers, such as {ALL_BUT_HEAD}.")


def frozen_names(names: list[str], patterns: Sequence[str]) -> list[str]:
    """Those of a model's layers that patterns name, by a layer's whole name or by that of one that it is part of."""
    found: set[str] = set()
    for pattern in patterns:
        fitting = names[:-1] if pattern == ALL_BUT_HEAD else [name for name in names if _fits(name, pattern)]
        if not fitting:
            raise InvalidInput(
                f"freeze has {pattern[:80]!r}, which names no layer with weights: use {ALL_BUT_HEAD}, or names and patterns of "
                f"{_listed(names)}."
            )
        found |= set(fitting)
    return [name for name in names if name in found]


def _fits(name: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(part, pattern) for part in (name, *name.split("/")))


def start_from(model: keras.Model, weights: FirstWeights, store: Store, freeze: Sequence[str], classes: tuple[str, ...]) -> Start:
    """Put the weights that `weights` names into the layers of `model` that they fit; `classes` are those of its data.

    Raise InvalidInput when no layer fits or a frozen one does not, BadData for a file that cannot be read, Damaged for
    a checkpoint whose checksum differs.
    """
    layers = model_layers(model)
    source, sha256 = load_layers(weights, store, layers)
    pairs, new = match(layers, source)
    head = list(layers)[-1]
    if head in pairs and weights.classes is not None and weights.classes != classes:
        del pairs[head]
        new[head] = "the classes differ"
    if not pairs:
        raise InvalidInput(
            f"Nothing of {weights} fits the model: it has {_listed(source)}, the model {_listed(layers)}; "
            f"for the first of them, {next(iter(new.values()))}."
        )
    for name in frozen_names(list(layers), freeze):
        if name in new:
            raise InvalidInput(
                f"freeze names the layer {name!r}, which takes nothing over from {weights} ({new[name]}): "
                f"random weights that never learn are of no use, so leave it out."
            )
    for name, there in pairs.items():
        for part, variable in layers[name].items():
            variable.assign(source[there][part])
    taken = tuple(name for name in layers if name in pairs)
    return Start(weights, sha256, taken, new)


def match(layers: Layers[Any], source: Layers[Any]) -> tuple[dict[str, str], dict[str, str]]:
    """For each layer the one of the source that it takes over, or why it is new.

    Layers of names that differ in numbers alone (`conv2d`, `conv2d_1`) are matched by these where the source has all of
    them, and by the numbers' order otherwise, because Keras counts the layers that a process makes.
    """
    pairs, new = {}, {}
    for stem, names in _by_stem(layers).items():
        there = _by_stem(source).get(stem, [])
        partners: list[str | None] = list(names) if set(names) <= set(there) else [*there, *[None] * len(names)]
        for name, partner in zip(names, partners, strict=False):
            why = "there is no such layer" if partner is None else _difference(layers[name], source[partner])
            if partner is None or why:
                new[name] = why
            else:
                pairs[name] = partner
    return pairs, {name: new[name] for name in layers if name in new}


def _by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_NUMBER.sub("", name), []).append(name)
    return {stem: sorted(members, key=_natural) for stem, members in groups.items()}


def _difference(here: dict[str, Any], there: dict[str, Any]) -> str:
    for part, variable in here.items():
        if part not in there:
            return f"there its {part} is missing"
        if tuple(variable.shape) != tuple(there[part].shape):
            return f"its {part} is {_shape(variable)} here, {_shape(there[part])} there"
    return ""


def _shape(array: Any) -> str:
    return "×".join(str(size) for size in array.shape) or "one number"


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")


def model_layers(model: keras.Model) -> Layers[Any]:
    """The variables of a model by layer, without the states of random generators."""
    return _grouped(((variable.path, variable) for variable in model.variables), lambda root: bool(root == model.name))


def load_layers(weights: FirstWeights, store: Store, target: Iterable[str] = ()) -> tuple[Layers[Any], str]:
    """The arrays that a file in the store holds, by layer, and the file's sha256; `target`: the layers of the model that is to take them."""
    try:
        load = _from_keras if weights.key.endswith(".keras") else _from_safetensors
        variables, sha256 = load(weights, store)
    except NotFound as error:
        raise InvalidInput(f"{weights} is no longer in {store.url} ({weights.key}): start a new run from another.") from error
    if weights.sha256 is not None and sha256 != weights.sha256:
        raise Damaged(f"The checkpoint's file {weights.key} differs from the checksum in its manifest.")
    # A file does not say whether what stands before all its layers is a model's name, or that of a layer made of others.
    tops = {_NUMBER.sub("", name.split("/")[0]) for name in target}
    return _grouped(variables, lambda root: _NUMBER.sub("", root) not in tops), sha256


def _from_safetensors(weights: FirstWeights, store: Store) -> tuple[list[tuple[str, Any]], str]:
    data = store.read(weights.key)
    try:
        tensors = dict(tensors_from_bytes(data))
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadData(f"The file {weights.key} is not valid safetensors ({describe(error)}): write it again.") from error
    tensors.pop(GLOBAL_STREAM, None)
    return [(_POSITION.sub("", key), tensors[key]) for key in sorted(tensors, key=_natural)], hashlib.sha256(data).hexdigest()


def _from_keras(weights: FirstWeights, store: Store) -> tuple[list[tuple[str, Any]], str]:
    with ScratchFolder("weights") as folder:
        path = Path(folder) / "source.keras"
        sha256 = store.download(weights.key, path)
        try:
            check_keras_file(path, weights.key)
            # Safe mode makes no function out of a file's bytes.
            source = keras.saving.load_model(path, compile=False, safe_mode=True)
        except BadData:
            raise
        except Exception as error:
            raise BadData(
                f"Keras cannot open the file {weights.key} ({describe(error)}): give a model of Keras' own layers, "
                "or its weights as safetensors."
            ) from error
    return list(_inside(source, "")), sha256


def _inside(layer: keras.Layer, prefix: str) -> Iterator[tuple[str, Any]]:
    """The weights of a layer and of those inside it: the paths of a loaded model's variables lack the models around them."""
    inner = {id(variable) for part in layer._layers for variable in part.weights}
    for variable in layer.weights:
        if id(variable) not in inner:
            yield prefix + variable.name, keras.ops.convert_to_numpy(variable)
    for part in layer._layers:
        yield from _inside(part, f"{prefix}{part.name}/")


def _grouped(variables: Iterable[tuple[str, T]], is_model: Callable[[str], bool]) -> Layers[T]:
    paths = [(path.split("/"), value) for path, value in variables if not _is_seed(path)]
    # The model's own name, where Keras puts it before those of all its layers, says nothing.
    roots = {parts[0] for parts, _ in paths}
    below = 1 if len(roots) == 1 and all(len(parts) > 2 for parts, _ in paths) and is_model(*roots) else 0
    layers: Layers[T] = {}
    for parts, value in paths:
        layers.setdefault("/".join(parts[below:-1]) or parts[0], {})[parts[-1]] = value
    return layers


def _is_seed(path: str) -> bool:
    return path.endswith("seed_generator_state")


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
