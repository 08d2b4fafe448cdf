"""The model of a run that came to its end, kept in the store as Keras' file."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import keras

from jobs.models.user_code import describe
from service.scratch import ScratchFolder
from service.storage.records import RunRecord


def keep_model(model: keras.Model, record: RunRecord, rank: int, event: Callable[[str, str], None]) -> None:
    """Save `model.keras`. Every worker takes part, because reading some variables is a collective; rank 0 uploads."""
    with _plain_model(model), ScratchFolder("model") as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
        except (TypeError, ValueError, NotImplementedError) as error:
            # A user's layer without get_config: `delayline export` builds the model again and loads the checkpoint.
            event(
                "model not saved",
                f"Keras cannot save this model as a file ({describe(error)}); its weights are in the last checkpoint",
            )
            return
        if rank == 0:
            record.store.upload(path, record.paths.model)


@contextlib.contextmanager
def _plain_model(model: keras.Model) -> Iterator[None]:
    """Within it the model is without the optimizer that callbacks needed, so that it is not saved with it."""
    optimizer = model.optimizer
    object.__setattr__(model, "optimizer", None)
    try:
        yield
    finally:
        object.__setattr__(model, "optimizer", optimizer)
