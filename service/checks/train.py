"""Checks that what a spec names exists: model, task, the user's own modules, enough examples. Nothing is imported for it."""

from collections.abc import Iterable
from pathlib import Path

from service.checks.arguments import check_arguments
from service.checks.keras_arguments import CALLBACK_ARGUMENTS
from service.datasets import find_dataset
from service.datasets.class_weights import check_weights_of
from service.datasets.manifest import VALIDATION
from service.errors import InvalidInput, UnknownName
from service.recipes.validation import nearest
from service.records.run_record import Document
from service.registry import Model, model_named, models, task_named, tasks
from service.specs.generated import BitSequences, generated
from service.specs.metric_names import check_metrics, check_metrics_of
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.user_folder import module_exists, own_names


def check_names(spec: TrainSpec, folder: Path) -> None:
    """Check that the model, the task and the user's own modules exist, under names that nothing else has; import none."""
    if spec.user_module is None:
        model = model_named(spec.model)
        if model is None:
            raise _unknown("model", spec.model, models(), ", or your own as my_package.nets:build")
        _check_parameters(spec, model)
        _check_steps(spec, model)
        _check_recurrence(spec, model)
        _check_space(spec, model)
        _check_compiled(spec)
    made = generated(spec.dataset, spec.dataset_params)
    if made is not None:
        _check_bits(spec, made)
    if task_named(spec.task) is None:
        raise _unknown("task", spec.task, tasks())
    check_arguments(spec)
    check_metrics(spec)
    for module in user_modules(spec):
        if not module_exists(module, folder):
            raise InvalidInput(
                f"The module {module[:80]!r} of the spec is not found from {folder}: start the command in the folder "
                f"that holds {module.split('.')[0][:80]}, or install it."
            )
    own_names(user_modules(spec), folder)


def _unknown(what: str, name: str, known: Iterable[str], own: str = "") -> UnknownName:
    return UnknownName(f"There is no {what} {name[:80]!r}{nearest(name, known)}; use {' or '.join(known)}{own}.")


def _check_parameters(spec: TrainSpec, model: Model) -> None:
    for name in spec.model_params:
        if name not in model.parameters:
            known = ", ".join(model.parameters) or "none"
            raise InvalidInput(
                f"The model {spec.model!r} has no parameter {name[:80]!r}{nearest(name, model.parameters)}; it takes {known}."
            )


def _check_steps(spec: TrainSpec, model: Model) -> None:
    task = task_named(spec.task)
    if task is not None and task.every_step and not model.every_step:
        able = [name for name, each in models().items() if each.every_step]
        raise InvalidInput(
            f"The model {spec.model!r} gives one answer for an example, but the task {spec.task!r} needs one for each step: "
            f"use {' or '.join(able)}."
        )


def _check_recurrence(spec: TrainSpec, model: Model) -> None:
    """The width and the start of a recurrent model."""
    if not model.every_step:
        return
    given = {name: value for name, value in spec.model_arguments.items() if value is not None}
    widths = given.get("units", 1)
    for width in widths if isinstance(widths, list | tuple) else [widths]:
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise InvalidInput(f"model_params.units is {str(widths)[:60]}, but a width must be a positive whole number.")
    if "start" in given and given["start"] not in model.starts:
        raise InvalidInput(
            f"model_params.start is {str(given['start'])[:60]!r}, but the model {spec.model!r} takes {' or '.join(model.starts)}."
        )


def _check_space(spec: TrainSpec, model: Model) -> None:
    if spec.space.name == "target" and not model.solvable:
        able = [name for name, each in models().items() if each.solvable]
        raise InvalidInput(
            f"Target space cannot solve the layers of the model {spec.model!r}: use {' or '.join(able)}, or space=weight."
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


def check_dataset(spec: TrainSpec, store: Store) -> Document:
    """Check that the dataset exists and fills a batch, after the validation share is held out; return its counts."""
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
                f"(of {examples}, {held_out} are held out for validation): use at most {training}, or omit the key for all."
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
    """Check that the run reports what `early_stopping` judges by; a run that exists is not checked, for it cannot change any more."""
    _check_monitors(spec)
    stopping = spec.early_stopping
    if stopping is None:
        return
    if spec.evaluate.validation == 0:
        raise InvalidInput(
            "early_stopping judges a run at its evaluations, and with evaluate.validation=0 there are none: "
            "use -s evaluate.validation=0.1, or omit early_stopping."
        )
    known = reported(spec)
    if stopping.metric not in known:
        raise InvalidInput(
            f"early_stopping.metric is {stopping.metric[:60]!r}, which no evaluation reports{nearest(stopping.metric, known)}: "
            f"use {', '.join(known)}."
        )


def _check_monitors(spec: TrainSpec) -> None:
    """Check that the run reports what Keras' callbacks monitor; Keras itself ignores a metric that never comes."""
    known = reported(spec)
    for callback in spec.callbacks:
        default = CALLBACK_ARGUMENTS.get(callback.name, {}).get("monitor")
        monitor = callback.arguments.get("monitor", default)
        if default is not None and monitor not in known:
            raise InvalidInput(
                f"The callback {callback.name} monitors {str(monitor)[:60]!r}, which this run does not report"
                f"{nearest(str(monitor), known)}: use monitor with {', '.join(known)}."
            )


def reported(spec: TrainSpec) -> tuple[str, ...]:
    """The metrics that a run reports while it trains: at evaluations, where there are any, and in each row."""
    names = ("loss", *metrics_of(spec.task))
    evaluated = [f"val_{name}" for name in (*names, *spec.metrics)] if spec.evaluate.validation > 0 else []
    return (*evaluated, *names)


def metrics_of(task: str) -> tuple[str, ...]:
    """The names of a task's metrics, beside its loss; none of a task that is not there."""
    found = task_named(task)
    return found.metrics if found else ()
