"""Models that begin with the weights of others, and layers that do not learn."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.artifacts.tensors import tensors_to_bytes
from jobs.layers.context import JordanContext
from jobs.models import jordan
from jobs.models.cnn import build
from jobs.training.transfer import Start, freeze_layers, frozen_names, load_layers, match, model_layers, start_from
from jobs.training.variables import copy_model, copy_variables
from service.errors import BadData, Damaged, DelaylineError, InvalidInput
from service.records.run_record import RunRecord
from service.records.submission_schemas import FirstWeights
from service.specs.parts import CheckpointPolicy
from service.specs.train import TrainSpec
from service.storage.local import LocalStore

TEN = tuple("0123456789")
IMAGES = np.random.default_rng(0).random((6, 8, 8, 1), np.float32)


def rich(classes: int = 10, units: int = 12) -> keras.Model:
    """Layers without names, a nested model, batch normalisation, two layers that draw at random."""
    image = keras.Input((8, 8, 1))
    inner = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(3, 3), layers.BatchNormalization()], name="inner")
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(image))
    x = layers.Flatten()(layers.Dropout(0.3)(inner(x)))
    x = layers.Dropout(0.3)(layers.Dense(units)(layers.Dense(units)(x)))
    return keras.Model(image, layers.Dense(classes)(x))


def stirred(model: keras.Model) -> keras.Model:
    """The model with other weights than any fresh one has."""
    generator = np.random.default_rng(5)
    for variable in model.weights:
        variable.assign(np.abs(variable.numpy()) + generator.random(variable.shape))
    return model


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def keep(store: LocalStore, model: keras.Model, form: str, folder: Path) -> FirstWeights:
    """The model's weights in the store: in a checkpoint, in Keras' own file, or in a file of plain Keras paths."""
    if form == "checkpoint":
        record = RunRecord(store, "base")
        CheckpointStore(record, CheckpointPolicy(), record.label(1)).save(Snapshot(7, 1, copy_model(model), {}, [], {}))
        return FirstWeights(key=record.checkpoints()[0].path + "model.safetensors", run="base", step=7, classes=TEN)
    if form == "keras":
        model.save(folder / "kept.keras")
        store.upload(folder / "kept.keras", "nets/kept.keras")
        return FirstWeights(key="nets/kept.keras")
    shuffled = sorted(copy_variables(model.weights).items(), key=lambda item: item[0][::-1])
    store.write("nets/kept.safetensors", tensors_to_bytes({key.split(" ", 1)[1]: array for key, array in shuffled}))
    return FirstWeights(key="nets/kept.safetensors")


def begin(store: LocalStore, model: keras.Model, weights: FirstWeights, *freeze: str, classes: Any = TEN) -> Start:
    freeze_layers(model, freeze)
    return start_from(model, weights, store, freeze, classes)


@pytest.mark.parametrize("form", ["checkpoint", "keras", "plain"])
def test_a_model_that_starts_from_itself_gives_the_same_outputs(store: LocalStore, tmp_path: Path, form: str) -> None:
    source = stirred(rich())
    weights = keep(store, source, form, tmp_path)
    # Keras continues its counting: no layer of this one has the name that it has there.
    target = rich()
    streams = [v.numpy().tolist() for v in target.variables if v.path.endswith("seed_generator_state")]
    start = begin(store, target, weights)
    assert start.new == {}
    assert len(start.taken) == 7
    np.testing.assert_array_equal(np.asarray(target(IMAGES)), np.asarray(source(IMAGES)))
    assert [v.numpy().tobytes() for v in target.weights] == [v.numpy().tobytes() for v in source.weights]
    # What a run draws at random is a matter of its own seed.
    assert [v.numpy().tolist() for v in target.variables if v.path.endswith("seed_generator_state")] == streams
    assert len(streams) == 2


def functional() -> keras.Model:
    """As the Jordan network, but without a name before those of its layers."""
    steps = keras.Input((6, 1))
    return keras.Model(steps, JordanContext(3, 1, True)(steps))


def nested() -> keras.Model:
    """A model all of whose weights are in another."""
    inner = keras.Sequential([keras.Input((6, 1)), layers.Dense(3), layers.Dense(2)], name="inner")
    return keras.Sequential([keras.Input((6, 1)), inner], name="outer")


@pytest.mark.parametrize("form", ["checkpoint", "keras", "plain"])
@pytest.mark.parametrize("make", [lambda: jordan.build((6, 1), 1, True, units=3), functional, nested])
def test_the_only_layer_with_weights_may_be_made_of_others(
    store: LocalStore, tmp_path: Path, make: Callable[[], keras.Model], form: str
) -> None:
    source, target = stirred(make()), make()
    start = begin(store, target, keep(store, source, form, tmp_path))
    assert start.new == {} and len(start.taken) == 2 and all("/" in name for name in start.taken)
    assert [v.numpy().tobytes() for v in target.weights] == [v.numpy().tobytes() for v in source.weights]


def test_more_than_ten_layers_of_a_kind_keep_their_order(store: LocalStore, tmp_path: Path) -> None:
    def deep() -> keras.Model:
        return keras.Sequential([keras.Input((5,)), *(layers.Dense(5) for _ in range(14))])

    source, target = stirred(deep()), deep()
    for form in ("checkpoint", "plain"):
        begin(store, target, keep(store, source, form, tmp_path))
        assert [v.numpy().tobytes() for v in target.weights] == [v.numpy().tobytes() for v in source.weights]


def test_frozen_layers_keep_every_bit_and_the_others_learn(
    make_spec: Callable[..., TrainSpec], make_replica: Callable[..., Any], store: LocalStore, tmp_path: Path
) -> None:
    weights = keep(store, stirred(rich()), "checkpoint", tmp_path)
    patterns = ["conv2d*", "batch_normalization*"]

    def started() -> keras.Model:
        model = rich()
        begin(store, model, weights, *patterns)
        return model

    replica = make_replica(make_spec(batch=6, optimizer={"name": "adam", "weight_decay": 0.1}), started)
    model = replica.model
    frozen = set(frozen_names(list(model_layers(model)), patterns))
    before = {name: {part: v.numpy() for part, v in parts.items()} for name, parts in model_layers(model).items()}
    for _ in range(3):
        replica.train({"x": IMAGES[None]}, np.arange(6, dtype=np.int32)[None], np.zeros(1, np.float32))
    for name, parts in model_layers(model).items():
        for part, variable in parts.items():
            assert (variable.numpy().tobytes() == before[name][part].tobytes()) == (name in frozen), (name, part)
    assert len(frozen) == 4
    assert sum(np.prod(v.shape) for v in model.trainable_variables) < model.count_params()
    # Adam keeps two moments of what learns, and nothing of what does not.
    moments = [v for v in replica.optimizer.variables if v.path.endswith(("momentum", "velocity"))]
    assert len(moments) == 2 * len(model.trainable_variables) == 12


def test_the_positions_of_a_checkpoint_are_those_of_a_model_that_learns_whole() -> None:
    whole, part = rich(), rich()
    freeze_layers(part, ["all-but-head"])
    assert [v.shape for v in part.variables] == [v.shape for v in whole.variables]
    assert len(part.trainable_variables) == 2


@pytest.mark.parametrize("form", ["checkpoint", "keras"])
def test_the_head_is_new_when_the_number_of_classes_differs(store: LocalStore, tmp_path: Path, form: str) -> None:
    source = stirred(build((8, 8, 1), 10))
    target = build((8, 8, 1), 3)
    head = target.layers[-1].kernel.numpy()
    start = begin(store, target, keep(store, source, form, tmp_path), "all-but-head", classes=("a", "b", "c"))
    assert start.new == {"logits": "its kernel is 128×3 here, 128×10 there"}
    assert len(start.taken) == 3
    assert (target.layers[-1].kernel.numpy() == head).all()
    assert [v.path.split("/")[-2] for v in target.trainable_variables] == ["logits", "logits"]


def test_the_head_is_new_when_as_many_classes_have_other_names(store: LocalStore, tmp_path: Path) -> None:
    weights = keep(store, stirred(build((8, 8, 1), 10)), "checkpoint", tmp_path)
    assert begin(store, build((8, 8, 1), 10), weights).new == {}
    start = begin(store, build((8, 8, 1), 10), weights, classes=tuple("abcdefghij"))
    assert start.new == {"logits": "the classes differ"}
    assert "new: logits (the classes differ)" in start.message
    document = start.document()
    assert (document["run"], document["step"], document["new"]) == ("base", 7, start.new)
    assert len(document["sha256"]) == 64


def test_images_of_another_size_leave_the_dense_layer_new(store: LocalStore, tmp_path: Path) -> None:
    weights = keep(store, build((28, 28, 1), 10), "checkpoint", tmp_path)
    start = begin(store, build((8, 8, 1), 10), weights)
    assert list(start.new.values()) == ["its kernel is 256×128 here, 3136×128 there"]
    with pytest.raises(InvalidInput, match=r"freeze names the layer 'dense.*256×128 here, 3136×128 there"):
        begin(store, build((8, 8, 1), 10), weights, "all-but-head")


def test_a_model_of_which_nothing_fits_is_refused(store: LocalStore, tmp_path: Path) -> None:
    weights = keep(store, build((8, 8, 1), 10, filters=[3, 5], units=7), "checkpoint", tmp_path)
    target = build((8, 8, 1), 10)
    before = [v.numpy().tobytes() for v in target.variables]
    with pytest.raises(
        InvalidInput, match=r"Nothing of the run base at step 7 fits the model: it has conv2d.*5×5×1×32 here"
    ) as no:
        begin(store, target, weights)
    assert "\n" not in str(no.value)
    assert [v.numpy().tobytes() for v in target.variables] == before


def shapes(**layers: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    return {name.replace("__", "/"): {"kernel": np.zeros(shape)} for name, shape in layers.items()}


def test_layers_are_matched_by_name_where_all_numbers_are_there_and_by_order_otherwise() -> None:
    source = shapes(conv=(1,), conv_1=(2,), conv_2=(3,), head=(4,))
    assert match(shapes(conv_1=(2,), conv_2=(3,)), source) == ({"conv_1": "conv_1", "conv_2": "conv_2"}, {})
    assert match(shapes(conv_7=(1,), conv_8=(2,)), source) == ({"conv_7": "conv", "conv_8": "conv_1"}, {})
    pairs, new = match(shapes(conv=(1,), conv_1=(9,), conv_2=(3,), conv_3=(3,), other=(4,)), source)
    assert pairs == {"conv": "conv", "conv_2": "conv_2"}
    assert new == {
        "conv_1": "its kernel is 9 here, 2 there",
        "conv_3": "there is no such layer",
        "other": "there is no such layer",
    }
    assert match(shapes(block_2__conv_4=(1,)), shapes(block__conv=(1,)))[0] == {"block_2/conv_4": "block/conv"}
    assert match({"a": {"kernel": np.zeros(1), "bias": np.zeros(1)}}, shapes(a=(1,)))[1] == {"a": "there its bias is missing"}


@given(st.lists(st.sampled_from(["conv2d", "dense", "inner/conv2d"]), min_size=1, max_size=8), st.integers(0, 30))
def test_a_model_fits_itself_wherever_keras_began_to_count(kinds: list[str], first: int) -> None:
    def counted(start: int) -> dict[str, dict[str, Any]]:
        names = [f"{kind}_{start + index}" if start + index else kind for index, kind in enumerate(kinds)]
        return {name: {"kernel": np.zeros(1)} for name in names}

    here, there = counted(first), counted(0)
    if set(here) == set(there) or not set(here) & set(there):
        assert match(here, there) == (dict(zip(here, there, strict=True)), {})


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["all-but-head"], ["stem", "body/conv2d", "body/conv2d_1"]),
        (["stem"], ["stem"]),
        (["conv2d"], ["body/conv2d"]),
        (["body"], ["body/conv2d", "body/conv2d_1"]),
        (["body/*_1", "st*"], ["stem", "body/conv2d_1"]),
        (["*"], ["stem", "body/conv2d", "body/conv2d_1", "logits"]),
        ([], []),
    ],
)
def test_patterns_name_layers(patterns: list[str], expected: list[str]) -> None:
    assert frozen_names(["stem", "body/conv2d", "body/conv2d_1", "logits"], patterns) == expected


@pytest.mark.parametrize(
    ("pattern", "words"), [("conv9*", "names no layer with weights.*conv2d"), ("*", "leaves nothing to train")]
)
def test_refuses_a_pattern(pattern: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        freeze_layers(build((8, 8, 1), 10), [pattern])


def damage(store: LocalStore, kind: str, folder: Path) -> FirstWeights:
    if kind == "gone":
        return FirstWeights(key="nets/gone.safetensors")
    if kind == "checksum":
        weights = keep(store, rich(), "plain", folder)
        return FirstWeights(key=weights.key, sha256="0" * 64)
    if kind == "lambda":
        model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: x * 2), layers.Dense(2)])
        return keep(store, model, "keras", folder)
    key = "nets/bad.keras" if kind == "no keras" else "nets/bad.safetensors"
    store.write(key, {"no keras": b"PK nothing", "cut off": tensors_to_bytes({"a": np.zeros(9)})[:-8]}.get(kind, b""))
    return FirstWeights(key=key)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("gone", InvalidInput, "no longer in"),
        ("checksum", Damaged, "differs from the checksum"),
        ("lambda", BadData, "Keras cannot open the file nets/kept.keras"),
        ("no keras", BadData, "Keras cannot open the file nets/bad.keras"),
        ("cut off", BadData, "is not valid safetensors"),
        ("empty", BadData, "is not valid safetensors"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(
    store: LocalStore, tmp_path: Path, kind: str, error: type[DelaylineError], words: str
) -> None:
    with pytest.raises(error, match=words) as refused:
        load_layers(damage(store, kind, tmp_path), store)
    assert "\n" not in str(refused.value)


def test_a_keras_file_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(400 * 2**20))
    store.upload(tmp_path / "bomb.keras", "nets/bomb.keras")
    with pytest.raises(BadData, match=r"nets/bomb\.keras: it unpacks to 4194"):
        begin(store, rich(), FirstWeights(key="nets/bomb.keras"))
