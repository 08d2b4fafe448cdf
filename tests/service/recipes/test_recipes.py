import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import recipes
from service.errors import InvalidInput, UnknownName
from service.recipes import sweeps
from service.recipes.documents import LARGEST_FILE, parse
from service.specs.train import TrainSpec
from service.sweeps.points import Points

HERE = Path()


def spec_of(*overrides: str, workers: str | None = None, name: str = "cnn-digits") -> TrainSpec:
    return recipes.resolve(name, list(overrides), workers, HERE)[0]


def refusal(*overrides: str, workers: str | None = None) -> str:
    with pytest.raises(InvalidInput) as raised:
        spec_of(*overrides, workers=workers)
    message = str(raised.value)
    assert "\n" not in message
    return message


def file_refusal(folder: Path, content: str | bytes) -> str:
    path = folder / "run.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInput) as raised:
        recipes.resolve(str(path), [], None, HERE)
    return str(raised.value)


def test_has_the_recipes_of_the_lecture() -> None:
    lecture = {"cnn-digits", "lenet5-digits", "dense-mnist", "lenet5-mnist", "cnn-mnist", "cnn-fashion", "cnn-cifar10"}
    assert lecture <= set(recipes.names())
    assert recipes.DEFAULT in recipes.names()


@pytest.mark.parametrize("name", recipes.names())
def test_each_recipe_is_documented_and_valid(name: str) -> None:
    described = recipes.describe(name)
    assert set(described) - {"spec", "sweep"} == {"name", "description", "reference", "reached"}
    assert described["description"]
    assert described["reference"]
    if "sweep" in described:
        sweep, stem = sweeps.resolve(name, [], None, HERE)
        assert stem == name
        for corner in Points(sweep).corners():
            Points(sweep).spec(corner)
        return
    spec, stem = recipes.resolve(name, [], None, HERE)
    assert stem == name
    assert spec.workers == ((2, 2) if name == "cnn-digits" else (1, 1))


def test_an_unknown_recipe_names_the_closest_and_all() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'cnn-digits'.*lenet5-mnist"):
        recipes.resolve("cnn-digit", [], None, HERE)


def test_overrides_are_yaml_and_may_be_dotted() -> None:
    spec = spec_of("model_params.dropout=0", "optimizer.learning_rate=1e-3", "worker.cpus=0.5", "augment=[flip]")
    assert spec.model_params == {"dropout": 0}
    assert spec.optimizer.arguments == {"learning_rate": 0.001}
    assert spec.worker.cpus == 0.5
    assert spec.augment[0].name == "flip"


def test_a_new_model_keeps_the_parameters_unless_they_change_too() -> None:
    assert spec_of("model=nets:build").model_params == {"dropout": 0.25}
    assert spec_of("model=nets:build", "model_params={}").model_params == {}


def test_steps_replace_epochs_and_the_other_way_round() -> None:
    assert (spec_of("steps=30").epochs, spec_of("steps=30").steps) == (None, 30)
    assert (spec_of("steps=30", "epochs=2").epochs, spec_of("steps=30", "epochs=2").steps) == (2, None)
    assert spec_of("steps=null").epochs == 20
    assert spec_of("checkpoint.every_steps=20").checkpoint.every_epochs is None
    assert spec_of("checkpoint.every_steps=20", "checkpoint.every_epochs=3").checkpoint.every_steps is None


def test_an_optimizer_may_be_a_name() -> None:
    assert spec_of("optimizer=sgd").optimizer.name == "sgd"
    assert spec_of("optimizer=sgd", "optimizer.momentum=0.9").optimizer.arguments == {"momentum": 0.9}


def test_workers_of_the_flag_win() -> None:
    assert spec_of("workers=4", workers="2-8").workers == (2, 8)


def test_changes_a_spec_that_exists() -> None:
    spec = spec_of()
    assert recipes.change(spec, []) == spec
    assert recipes.change(spec, ["retries=7"], "4").document() == {**spec.document(), "retries": 7, "workers": 4}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epochs=-1", ["epochs", "-1", "at least 1"]),
        ("colour=red", ["Unknown key 'colour'", "valid keys", "model_params"]),
        ("epoch=3", ["Unknown key 'epoch'", "did you mean 'epochs'"]),
        ("worker.gpu=1", ["Unknown key 'worker.gpu'", "did you mean 'gpus'", "cpus"]),
        ("early_stopping.patence=2", ["did you mean 'patience'"]),
        ("batch=red", ["batch", '"red"', "whole number"]),
        ("model=null", ["model", "null", "a text"]),
        ("model_params=3", ["model_params", "mapping"]),
        ("optimizer={}", ["no 'optimizer.name'"]),
        ("precision=f16", ["one of", "bfloat16"]),
        ("workers=x", ["workers", "2-8"]),
        ("workers=3", ["batch of 64", "multiple"]),
        ("dataset=../x", ["dataset name"]),
        ("model_params.rate=.nan", ["finite"]),
        ("epochs", ["KEY=VALUE"]),
        ("=3", ["KEY=VALUE"]),
        ("a..b=3", ["KEY=VALUE"]),
        ("batch={", ["batch", "not valid YAML"]),
        ("batch.x=2", ["'batch'", "as a whole"]),
    ],
)
def test_refuses_with_the_value_and_the_remedy(override: str, words: list[str]) -> None:
    message = refusal(override)
    for word in words:
        assert word in message


def test_counts_further_problems() -> None:
    assert "2 more problems" in refusal("epochs=-1", "seed=-1", "log_every=0")


def test_reads_a_users_file(tmp_path: Path) -> None:
    (tmp_path / "My Run.yaml").write_text("model: nets:build\ndataset: mnist\nsteps: 3\noptimizer: sgd\n")
    spec, stem = recipes.resolve("./My Run.yaml", ["batch=32"], None, tmp_path)
    assert (stem, spec.steps, spec.batch, spec.optimizer.name) == ("My Run", 3, 32, "sgd")


def test_a_file_may_begin_from_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text("recipe: cnn-mnist\nsteps: 3\nevaluate: {validation: 0.2}\nmodel_params: {}\n")
    spec, _ = recipes.resolve("x.yml", [], None, tmp_path)
    assert (spec.epochs, spec.steps, spec.dataset, spec.evaluate.validation, spec.model_params) == (None, 3, "mnist", 0.2, {})


def test_an_optimizer_or_space_without_a_name_changes_the_recipes_own(tmp_path: Path) -> None:
    own = recipes.resolve("bit-memory-target-space", [], None, tmp_path)[0]
    text = "recipe: bit-memory-target-space\nspace: {initial: weights}\noptimizer: {global_clipnorm: 1.0}\n"
    (tmp_path / "x.yml").write_text(text)
    spec, _ = recipes.resolve("x.yml", [], None, tmp_path)
    assert spec.space == own.space.model_copy(update={"initial": "weights"})
    assert spec.document()["optimizer"] == {**own.document()["optimizer"], "global_clipnorm": 1.0}
    (tmp_path / "y.yml").write_text("recipe: bit-memory-target-space\noptimizer: {name: sgd}\n")
    assert recipes.resolve("y.yml", [], None, tmp_path)[0].document()["optimizer"] == {"name": "sgd"}


def test_whole_numbers_may_be_keys(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("model: cnn\ndataset: digits\nepochs: 1\nclass_weight: {0: 1, 7: 2.5}\n")
    assert recipes.resolve("x.yaml", [], None, tmp_path)[0].class_weight == {"0": 1.0, "7": 2.5}
    changed = recipes.resolve("x.yaml", ["class_weight={3: 2}"], None, tmp_path)[0]
    assert changed.class_weight is not None and changed.class_weight["3"] == 2.0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds nothing"),
        ("- a\n", "holds a list"),
        ("5", "the int 5"),
        ("a: [1", "line 1, column 6"),
        ("\ta: 1", "line 1"),
        ("a: 1\nb: 2\na: 3\n", "'a' appears twice"),
        ("1.5: a", "key 1.5"),
        ("0x10: a", "key 16"),
        ("true: a", "key True"),
        ("class_weight: {1: 2, '1': 3}", "'1' appears twice"),
        ("[a]: 1", "not valid YAML"),
        ("a: 1\x00", "not valid YAML"),
        (b"a: \xff", "not UTF-8"),
        ("x" * (LARGEST_FILE + 1), "larger than 256 KiB"),
        ("a: " * 20_000, "not valid YAML"),
        ("[" * 100_000, "nested too deeply"),
        ("{a: " * 50_000, "nested too deeply"),
        ("a: &a [*a]", "more than 100000 values"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: " + "9" * 400, "of 1329 bits"),
        ("a: !!python/object/apply:os.system [ls]", "python/object"),
        ("a: !!binary aGVsbG8=", "bytes"),
        ("a: .inf", "finite"),
        ('a: "\\ud800"', "the str"),
        ("--- 1\n--- 2\n", "another document"),
        ("recipe: nothing", "no recipe 'nothing'"),
        ("recipe: cnn-mnist\nsteps: 3\nepochs: 2\n", "either epochs or steps"),
        ("modle: cnn\ndataset: digits\nepochs: 1\n", "did you mean 'model'"),
    ],
)
def test_refuses_a_file(tmp_path: Path, content: str | bytes, words: str) -> None:
    assert words in file_refusal(tmp_path, content)


def test_refuses_aliases_that_grow_by_powers(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
    assert "more than 100000 values" in file_refusal(tmp_path, "\n".join(lines))


@pytest.mark.parametrize("name", ["absent.yaml", "./absent", "/", "/dev/zero"])
def test_refuses_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="The spec file"):
        recipes.resolve(name, [], None, tmp_path)


letters = st.characters(max_codepoint=0xFFFF, exclude_categories=("Cs",))
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(letters, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(letters, max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(plain)
def test_json_is_read_as_it_is(value: Any) -> None:
    assert parse(json.dumps(value), "The value") == value


@given(st.text(max_size=200))
def test_any_text_gives_plain_values_or_one_error(text: str) -> None:
    try:
        parse(text, "The text")
    except InvalidInput as error:
        assert str(error).startswith("The text ")
