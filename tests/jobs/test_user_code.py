"""A user's own model: found, called, checked, and their own lines kept apart from all others."""

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from jobs.models.registry import build_model
from jobs.user_code import describe, is_users, load_user_function, user_traceback
from service.errors import InvalidInput, UserFailure
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]
Build = Callable[..., keras.Model]


@pytest.fixture
def build(make_spec: MakeSpec, user_folder: Path) -> Build:
    """Writes the user's module `nets.py` and builds the model that its `build` makes."""

    def make(source: str, shape: object = (4,), classes: int = 3, **params: object) -> keras.Model:
        (user_folder / "nets.py").write_text("import keras\nfrom keras import layers\n" + inspect.cleandoc(source) + "\n")
        spec = make_spec(model="nets:build", model_params=params)
        return build_model(spec, shape, classes, str(user_folder))  # type: ignore[arg-type]

    return make


def test_a_module_is_found_from_the_folder_and_gets_the_parameters(build: Build) -> None:
    model = build(
        """
        def build(input_shape, classes, width=3):
            return keras.Sequential([keras.Input(input_shape), layers.Dense(width), layers.Dense(classes)])
        """,
        width=7,
    )
    assert [layer.units for layer in model.layers] == [7, 3]


def test_a_module_within_packages_imports_its_neighbours(make_spec: MakeSpec, user_folder: Path) -> None:
    package = user_folder / "my_package" / "deep"
    package.mkdir(parents=True)
    (user_folder / "my_package" / "parts.py").write_text("WIDTH = 5\n")
    (package / "nets.py").write_text(
        "import keras\nfrom my_package.parts import WIDTH\n"
        "def make(s, c):\n    return keras.Sequential([keras.Input(s), keras.layers.Dense(WIDTH), keras.layers.Dense(c)])\n"
    )
    model = build_model(make_spec(model="my_package.deep.nets:make"), (4,), 3, str(user_folder))
    assert model.count_params() == 25 + 18


def test_an_installed_module_needs_no_folder() -> None:
    assert load_user_function("json:dumps", None) is json.dumps


def test_the_folder_comes_last_and_once(user_folder: Path) -> None:
    (user_folder / "json.py").write_text("raise RuntimeError('a file of the user')\n")
    (user_folder / "last_nets.py").write_text("import json\n\ndef build():\n    return json.dumps\n")
    for _ in range(2):
        assert load_user_function("last_nets:build", str(user_folder))() is json.dumps
    assert sys.path[-1] == str(user_folder)
    assert sys.path.count(str(user_folder)) == 1


def test_a_module_of_the_users_that_is_installed_too_is_theirs(
    user_folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their own project, say, an older version of which they installed."""
    installed = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(installed)
    for folder, which in ((installed, "old"), (user_folder, "new")):
        (folder / "their_parts.py").write_text(f"WHICH = {which!r}\n")
    (user_folder / "their_nets.py").write_text("from their_parts import WHICH\n\ndef build():\n    return WHICH\n")
    assert load_user_function("their_nets:build", str(user_folder))() == "new"


def test_a_missing_module_is_named(make_spec: MakeSpec, user_folder: Path) -> None:
    with pytest.raises(UserFailure, match="The module 'no_such_nets' cannot be imported: ModuleNotFoundError") as failed:
        build_model(make_spec(model="no_such_nets:build"), (4,), 3, str(user_folder))
    assert failed.value.user_traceback == ""


def test_a_module_that_fails_while_it_is_imported_shows_its_line(make_spec: MakeSpec, user_folder: Path) -> None:
    (user_folder / "fails.py").write_text("x = 1\ny = x / 0\n")
    with pytest.raises(UserFailure, match="'fails' cannot be imported: ZeroDivisionError: division by zero") as failed:
        build_model(make_spec(model="fails:build"), (4,), 3, str(user_folder))
    assert "y = x / 0" in failed.value.user_traceback
    assert "importlib" not in failed.value.user_traceback


def test_a_syntax_error_is_the_users(make_spec: MakeSpec, user_folder: Path) -> None:
    (user_folder / "wrong.py").write_text("def build(:\n")
    with pytest.raises(UserFailure, match="'wrong' cannot be imported: SyntaxError"):
        build_model(make_spec(model="wrong:build"), (4,), 3, str(user_folder))


def test_a_missing_function_is_named_with_those_that_are_there(build: Build) -> None:
    with pytest.raises(UserFailure, match="has no function 'build': it has bulid, other; correct the spec or the module"):
        build(
            """
            def bulid(shape, classes): ...
            def other(): ...
            def _hidden(): ...
            build = 3
            """
        )


def test_a_function_that_raises_shows_the_users_own_lines_alone(build: Build) -> None:
    with pytest.raises(UserFailure, match="nets:build failed: ValueError: my own mistake") as failed:
        build(
            """
            def helper():
                raise ValueError("my own mistake")

            def build(shape, classes):
                return keras.tree.map_structure(lambda _: helper(), [1])
            """
        )
    own = failed.value.user_traceback
    assert 'raise ValueError("my own mistake")' in own
    assert "in build" in own
    assert own.endswith("ValueError: my own mistake")
    assert "optree" not in own
    assert "call_build" not in own


def test_a_function_that_takes_other_arguments_is_an_error_that_says_how_it_is_called(build: Build) -> None:
    with pytest.raises(UserFailure, match=r"it is called as build\(input_shape, classes, width=…\)"):
        build("def build(shape, classes): ...", width=3)


@pytest.mark.parametrize(("value", "kind"), [("None", "NoneType"), ("layers.Dense(3)", "Dense"), ("keras.Sequential", "type")])
def test_a_function_that_returns_no_model_is_refused(build: Build, value: str, kind: str) -> None:
    with pytest.raises(UserFailure, match=f"must be a keras.Model, but its function returned {kind}: return the model"):
        build(f"def build(shape, classes): return {value}")


@pytest.mark.parametrize(
    ("end", "got"),
    [
        ("layers.Dense(classes + 1)", r"\(2, 4\)"),
        ("layers.Reshape((2, 2))", r"\(2, 2, 2\)"),
        ("layers.Lambda(lambda x: {'a': x})", "dict"),
    ],
)
def test_logits_of_another_shape_are_refused(build: Build, end: str, got: str) -> None:
    with pytest.raises(UserFailure, match=rf"must give logits of shape \(batch, 3\).* it gave {got}: end it with Dense\(3\)"):
        build(f"def build(shape, classes): return keras.Sequential([keras.Input(shape), {end}])")


def test_a_model_with_nothing_to_train_is_refused(build: Build) -> None:
    with pytest.raises(UserFailure, match="has no trainable variables"):
        build("def build(shape, classes): return keras.Sequential([keras.Input(shape), layers.Identity()])", classes=4)


def test_a_model_that_fails_when_it_is_called_is_the_users(build: Build) -> None:
    with pytest.raises(UserFailure, match=r"failed with examples of shape \(4,\): RuntimeError: my own mistake") as failed:
        build(
            """
            class Own(keras.Model):
                def call(self, x):
                    raise RuntimeError("my own mistake")

            def build(shape, classes):
                return Own()
            """
        )
    assert 'raise RuntimeError("my own mistake")' in failed.value.user_traceback


def test_a_model_for_examples_of_another_shape_is_the_users(build: Build) -> None:
    with pytest.raises(UserFailure, match=r"'nets:build' failed with examples of shape \(4,\): ValueError: .*shape"):
        build("def build(shape, classes): return keras.Sequential([keras.Input((5,)), layers.Dense(classes)])")


def test_a_model_with_several_inputs_gets_the_features_by_name(build: Build) -> None:
    model = build(
        """
        def build(shapes, classes):
            word = keras.Input(shapes["word"], name="word")
            image = keras.Input(shapes["image"], name="image")
            both = layers.Concatenate()([layers.Flatten()(image), word])
            return keras.Model([word, image], layers.Dense(classes)(both))
        """,
        shape={"image": (2, 2, 1), "word": (5,)},
    )
    assert model.count_params() == (4 + 5 + 1) * 3


def test_a_subclassed_model_takes_a_dictionary_of_features(build: Build) -> None:
    model = build(
        """
        class Own(keras.Model):
            def __init__(self, classes):
                super().__init__()
                self.end = layers.Dense(classes)

            def call(self, features, training=False):
                return self.end(keras.ops.concatenate([features["a"], features["b"]], axis=-1))

        def build(shapes, classes):
            return Own(classes)
        """,
        shape={"a": (2,), "b": (3,)},
    )
    assert model.count_params() == 18


def test_layers_of_the_users_own_and_batch_normalisation_are_welcome(build: Build) -> None:
    model = build(
        """
        @keras.saving.register_keras_serializable("own")
        class Scale(layers.Layer):
            def build(self, shape):
                self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

            def call(self, x):
                return x * self.factor

        def build(shape, classes):
            return keras.Sequential(
                [keras.Input(shape), Scale(), layers.BatchNormalization(), layers.Dense(classes)]
            )
        """
    )
    assert model.count_params() == 4 + 16 + 15
    assert len(model.non_trainable_variables) == 2


def test_building_does_not_move_the_running_means(build: Build) -> None:
    model = build(
        """
        def build(shape, classes):
            return keras.Sequential([keras.Input(shape), layers.BatchNormalization(), layers.Dense(classes)])
        """
    )
    mean, variance = (np.asarray(value) for value in model.layers[0].non_trainable_variables)
    assert (mean == 0).all()
    assert (variance == 1).all()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError("  \n "), "ValueError"),
        (KeyError("a"), "KeyError: 'a'"),
        (ValueError("Exception encountered when calling A.call().\n\n\x1b[1mwrong\x1b[0m\n"), "ValueError: wrong"),
        (ValueError("Graph execution error:\n\nDetected at node"), "ValueError: Graph execution error:"),
        (ValueError("x" * 1000), "ValueError: " + "x" * 300),
    ],
)
def test_an_exception_is_described_in_a_line(error: Exception, text: str) -> None:
    assert describe(error) == text


def test_files_of_libraries_and_of_delayline_are_not_the_users() -> None:
    ours = Path(inspect.getfile(InvalidInput))
    assert not is_users(str(ours))
    assert not is_users(inspect.getfile(json))
    assert not is_users(keras.__file__)
    assert not is_users("<frozen importlib._bootstrap>")
    assert is_users(__file__)
    assert is_users(str(ours.parents[1] / "my_nets.py"))


def test_causes_are_shown_before_what_they_caused_and_suppressed_ones_not() -> None:
    def chained(suppress: bool) -> BaseException:
        try:
            try:
                raise ValueError("the cause")
            except ValueError:
                if suppress:
                    raise KeyError("the end") from None
                raise KeyError("the end")  # noqa: B904
        except KeyError as error:
            return error

    both = user_traceback(chained(False))
    assert both.index("ValueError: the cause") < both.index("KeyError: 'the end'")
    assert "the cause" not in user_traceback(chained(True)).split("KeyError")[-1]


def test_a_folder_of_the_users_beside_the_package_whose_name_begins_alike_is_theirs() -> None:
    source = Path(inspect.getfile(is_users))
    beside = source.parents[1]
    assert not is_users(str(source))
    assert not is_users(str(beside / "service" / "errors.py"))
    assert is_users(str(beside / "jobs_mine" / "nets.py"))
    assert is_users(str(beside / "service_of_mine.py"))
