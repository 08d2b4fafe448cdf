"""Makes Keras' callbacks by name, and the user's own."""

import inspect
from typing import Any

import keras

from jobs.user_code import describe, load_user_function, user_traceback
from service.errors import InvalidInput, UserFailure
from service.specs.choices import REFUSED_CALLBACKS
from service.specs.metric_names import higher_is_better
from service.specs.train import TrainSpec

_BATCH_METHODS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")


def make_callbacks(spec: TrainSpec, folder: str | None) -> list[keras.callbacks.Callback]:
    """The spec's callbacks; raise InvalidInput for what cannot work here, UserFailure for a failure of the user's own."""
    callbacks = [
        _own(entry.name, entry.arguments, folder) if ":" in entry.name else _keras(entry.name, entry.arguments)
        for entry in spec.callbacks
    ]
    for callback in callbacks:
        # Keras would look for the metric among those of compile(), which is never called here.
        if getattr(callback, "mode", None) == "auto" and isinstance(getattr(callback, "monitor", None), str):
            callback.mode = "max" if higher_is_better(callback.monitor) else "min"
    return callbacks


def _keras(name: str, arguments: dict[str, Any]) -> keras.callbacks.Callback:
    kinds = {
        key: kind
        for key, kind in vars(keras.callbacks).items()
        if inspect.isclass(kind) and issubclass(kind, keras.callbacks.Callback) and key not in {"Callback", *REFUSED_CALLBACKS}
    }
    if name in REFUSED_CALLBACKS:
        raise InvalidInput(f"The callback {name} does not work here: {REFUSED_CALLBACKS[name]}.")
    if name not in kinds:
        raise InvalidInput(
            f"There is no callback {name[:60]!r}: use {', '.join(sorted(kinds))}, or your own as my_package.module:make."
        )
    if arguments.get("restore_best_weights"):
        raise InvalidInput(
            f"The callback {name} cannot restore the best weights, which a resumed run no longer has: use early_stopping.restore_best."
        )
    try:
        return kinds[name](**arguments)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"The callback {name} was refused by Keras: {str(error).splitlines()[0][:300]}.") from error


def _own(reference: str, arguments: dict[str, Any], folder: str | None) -> keras.callbacks.Callback:
    make = load_user_function(reference, folder)
    try:
        callback = make(**arguments)
    except Exception as error:
        raise UserFailure(f"{reference} failed: {describe(error)}.", user_traceback(error)) from error
    if not isinstance(callback, keras.callbacks.Callback):
        raise UserFailure(f"{reference} must return a keras.callbacks.Callback, but it returned {type(callback).__name__}.")
    return callback


def observes_batches(callbacks: list[keras.callbacks.Callback]) -> bool:
    """Whether a callback wants to be called for each batch; then one call of the compiled function does one step."""
    base = keras.callbacks.Callback
    return any(getattr(type(callback), name) is not getattr(base, name) for callback in callbacks for name in _BATCH_METHODS)
