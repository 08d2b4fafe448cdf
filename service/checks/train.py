"""Whether what a spec names is there: model, task, the user's own modules, enough examples. Nothing is imported for it."""

import ast
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from service.checks.arguments import check_arguments
from service.checks.keras_arguments import CALLBACK_ARGUMENTS
from service.datasets import find_dataset
from service.datasets.class_weights import check_weights_of
from service.datasets.manifest import VALIDATION
from service.errors import InvalidInput, UnknownName
from service.recipes.validation import nearest
from service.records.run_record import Document
from service.specs.generated import BitSequences, generated, is_bits_task
from service.specs.metric_names import check_metrics, check_metrics_of
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.user_folder import module_exists, own_names

TARGET_SPACE_MODELS = ("cnn", "dense", "lenet5", "simple-rnn")
"""Those of Delayline's models whose layers target space can solve."""
_MAKERS = {"models": "build", "tasks": "make"}
"""The function that makes a file a model or a task."""


def registered(kind: str) -> dict[str, tuple[str, ...]]:
    """The `models` or `tasks` that ship with Delayline, each with the parameters that its function takes by name.

    One file each, read and not imported: that would import TensorFlow.
    """
    return {name: tuple(argument.arg for argument in maker.args.kwonlyargs) for name, maker in _makers(kind)}


def sequence_models() -> list[str]:
    """The models that can answer at every step of a sequence: their function takes `every_step`."""
    return [name for name, maker in _makers("models") if "every_step" in {argument.arg for argument in maker.args.args}]


@functools.cache
def _makers(kind: str) -> tuple[tuple[str, ast.FunctionDef], ...]:
    return tuple(_read_makers(kind))


def _read_makers(kind: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    package = importlib.util.find_spec("jobs")
    folders = (package.submodule_search_locations if package else None) or []
    for path in sorted(path for folder in folders for path in Path(folder, kind).glob("[!_]*.py")):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.FunctionDef) and node.name == _MAKERS[kind]:
                yield path.stem.replace("_", "-"), node


def check_names(spec: TrainSpec, folder: Path) -> None:
    """The model, the task and the modules of the user's own must be there, with names of their own; none is imported."""
    if spec.user_module is None:
        parameters = _among(registered("models"), spec.model, "model", ", or your own as my_package.nets:build")
        for name in spec.model_params:
            if name not in parameters:
                known = ", ".join(parameters) or "none"
                raise InvalidInput(
                    f"The model {spec.model!r} has no parameter {name[:80]!r}{nearest(name, parameters)}; it takes {known}."
                )
        _check_steps(spec)
        _check_recurrence(spec)
        _check_space(spec)
        _check_compiled(spec)
    made = generated(spec.dataset, spec.dataset_params)
    if made is not None:
        _check_bits(spec, made)
    _among(registered("tasks"), spec.task, "task")
    check_arguments(spec)
    check_metrics(spec)
    for module in user_modules(spec):
        if not module_exists(module, folder):
            raise InvalidInput(
                f"The module {module[:80]!r} of the spec is not found from {folder}: start the command in the folder "
                f"that holds {module.split('.')[0][:80]}, or install it."
            )
    own_names(user_modules(spec), folder)


def _check_steps(spec: TrainSpec) -> None:
    models = sequence_models()
    if is_bits_task(spec.task) and spec.model.replace("_", "-") not in models:
        raise InvalidInput(
            f"The model {spec.model!r} gives one answer for an example, but the task {spec.task!r} needs one for each step: "
            f"use {' or '.join(models)}."
        )


def _check_recurrence(spec: TrainSpec) -> None:
    """The width and the start of a recurrent model."""
    if spec.model.replace("_", "-") not in sequence_models():
        return
    given = {name: value for name, value in spec.model_arguments.items() if value is not None}
    widths = given.get("units", 1)
    for width in widths if isinstance(widths, list | tuple) else [widths]:
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise InvalidInput(f"model_params.units is {str(widths)[:60]}, but a width must be a positive whole number.")
    starts = _constant("models", spec.model, "STARTS")
    if "start" in given and given["start"] not in starts:
        raise InvalidInput(
            f"model_params.start is {str(given['start'])[:60]!r}, but the model {spec.model!r} takes {' or '.join(starts)}."
        )


def _check_space(spec: TrainSpec) -> None:
    if spec.space.name == "target" and spec.model.replace("_", "-") not in TARGET_SPACE_MODELS:
        raise InvalidInput(
            f"Target space cannot solve the layers of the model {spec.model!r}: use {' or '.join(TARGET_SPACE_MODELS)}, or space=weight."
        )
    # Frozen layers are not solved.
    if spec.space.name == "target" and spec.model_params.get("batch_norm") and not spec.freeze:
        raise InvalidInput(
            "Target space cannot solve the batch normalisation that model_params.batch_norm asks for: "
            "use -s model_params.batch_norm=false, or space=weight."
        )


def _check_compiled(spec: TrainSpec) -> None:
    # Frozen layers keep their statistics, and the worker looks at each layer.
    if spec.jit_compile and spec.model_params.get("batch_norm") and spec.worker_counts[0] > 1 and not spec.freeze:
        raise InvalidInput(
            "jit_compile cannot compile the batch normalisation that model_params.batch_norm asks for with more than one worker, "
            "whose statistics are those of all workers' examples: use -s jit_compile=false, or workers=1."
        )


def _check_bits(spec: TrainSpec, made: BitSequences) -> None:
    if spec.input == "stream":
        raise InvalidInput("The dataset 'bits' is generated in memory, where there is nothing to stream: use -s input=auto.")
    if spec.augment:
        raise InvalidInput("The dataset 'bits' has no images for augment to change: use -s augment=[].")
    length = spec.space.realisation_length
    if length is not None and length > made.length:
        raise InvalidInput(
            f"space.realisation_length is {length}, but the sequences have {made.length} steps: use at most as many."
        )


def user_modules(spec: TrainSpec) -> tuple[str, ...]:
    """The modules of the user's own that the spec names, each once."""
    references = [spec.model, *(callback.name for callback in spec.callbacks)]
    return tuple(dict.fromkeys(reference.partition(":")[0] for reference in references if ":" in reference))


def _among(known: dict[str, tuple[str, ...]], name: str, what: str, own: str = "") -> tuple[str, ...]:
    if name.replace("_", "-") not in known:
        raise UnknownName(f"There is no {what} {name[:80]!r}{nearest(name, known)}; use {' or '.join(known)}{own}.")
    return known[name.replace("_", "-")]


def check_dataset(spec: TrainSpec, store: Store) -> Document:
    """The dataset must exist and fill a batch; unless it has a validation split of its own, after the validation share is held out."""
    dataset = find_dataset(store, spec.dataset, spec.dataset_params)
    check_weights_of(spec, dataset)
    check_metrics_of(spec, dataset.classes)
    examples = dataset.splits["train"]
    share = spec.evaluate.validation
    own = dataset.splits.get(VALIDATION, 0)
    held_out = 0 if own else round(examples * share)
    training = examples - held_out
    if share > 0 and held_out == 0 and not own:
        raise InvalidInput(
            f"evaluate.validation={share:g} of {examples} examples is none: use 0, or at least {1 / max(examples, 1):.2g}."
        )
    if spec.training_examples is not None:
        if spec.training_examples > training:
            raise InvalidInput(
                f"training_examples={spec.training_examples} is more than the {training} training examples of {spec.dataset} "
                f"(of {examples}, {held_out} are held out for validation): use at most {training}, or leave it out for all."
            )
        training = spec.training_examples
    if spec.batch > training:
        raise InvalidInput(
            f"A batch of {spec.batch} is larger than the {training} training examples of {spec.dataset} "
            f"(of {examples}, {held_out} are held out for validation): use -s batch={max(training, 1)} or less."
        )
    validation = own if share > 0 and own else held_out
    counts = {"training": training, "validation": validation, "test": dataset.splits.get("test", 0)}
    return {"name": spec.dataset.partition("@")[0], "version": dataset.version, **counts}


def check_stopping(spec: TrainSpec) -> None:
    """What `early_stopping` goes by must be reported: it would do nothing. Of a run that exists nobody can change it any more."""
    _check_monitors(spec)
    stopping = spec.early_stopping
    if stopping is None:
        return
    if spec.evaluate.validation == 0:
        raise InvalidInput(
            "early_stopping judges a run at its evaluations, and with evaluate.validation=0 there are none: "
            "use -s evaluate.validation=0.1, or leave early_stopping out."
        )
    known = reported(spec)
    if stopping.metric not in known:
        raise InvalidInput(
            f"early_stopping.metric is {stopping.metric[:60]!r}, which no evaluation reports{nearest(stopping.metric, known)}: "
            f"use {', '.join(known)}."
        )


def _check_monitors(spec: TrainSpec) -> None:
    """What Keras' callbacks go by; Keras says nothing of a metric that never comes."""
    known = reported(spec)
    for callback in spec.callbacks:
        default = CALLBACK_ARGUMENTS.get(callback.name, {}).get("monitor")
        monitor = callback.arguments.get("monitor", default)
        if default is not None and monitor not in known:
            raise InvalidInput(
                f"The callback {callback.name} goes by {str(monitor)[:60]!r}, which this run does not report"
                f"{nearest(str(monitor), known)}: use monitor with {', '.join(known)}."
            )


def reported(spec: TrainSpec) -> tuple[str, ...]:
    """The metrics that a run reports while it trains: at evaluations, where there are any, and in each row."""
    names = ("loss", *metrics_of(spec.task))
    evaluated = [f"val_{name}" for name in (*names, *spec.metrics)] if spec.evaluate.validation > 0 else []
    return (*evaluated, *names)


def metrics_of(task: str) -> tuple[str, ...]:
    """The names of a task's metrics, beside its loss: the `METRICS` of its file."""
    return _constant("tasks", task, "METRICS")


@functools.cache
def _constant(kind: str, name: str, constant: str) -> tuple[str, ...]:
    """The words that a constant of a model's or a task's file lists, or has as keys; none where there is no such constant."""
    package = importlib.util.find_spec("jobs")
    for folder in (package.submodule_search_locations if package else None) or []:
        path = Path(folder, kind, f"{name.replace('-', '_')}.py")
        for node in ast.parse(path.read_bytes()).body if path.exists() else []:
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == constant for t in node.targets):
                return tuple(ast.literal_eval(node.value))
    return ()
