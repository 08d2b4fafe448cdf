"""Saves the model of a run that succeeded, as Keras' file in the store."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import keras

from jobs.user_code import describe
from service.errors import Conflict, InfrastructureFailure
from service.records.run_record import RunRecord
from service.scratch import ScratchFolder
from service.storage.shared_document import ROUNDS


def keep_model(
    model: keras.Model,
    record: RunRecord,
    rank: int,
    event: Callable[[str, str], None],
    still_own: Callable[[], None] = lambda: None,
) -> None:
    """Save `model.keras`. Every worker takes part, because reading some variables is a collective; rank 0 uploads.

    `still_own` raises LeaseLost once the run is another attempt's.
    """
    with _without_optimizer(model), ScratchFolder("model") as folder:
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
            upload_owned(record, path, still_own)


def upload_owned(record: RunRecord, path: Path, still_own: Callable[[], None]) -> None:
    """Upload a file as the run's model over the version that is there; raise LeaseLost, having replaced nothing, for another attempt's run.

    First the version is looked at, then whether the run is still this attempt's: a model that a later attempt writes after
    that is another version, and one that it wrote before that was written once the run was its own.
    """
    store, key = record.store, record.paths.model
    for _ in range(ROUNDS):
        version = store.version_of(key)
        still_own()
        try:
            store.upload(path, key, if_absent=version is None, if_version=version)
            return
        except Conflict:
            # An attempt that is over has written it, or this one, whose answer was lost.
            continue
    raise InfrastructureFailure(f"The model {key} in {store.url} was replaced by others all the time; the attempt starts again.")


def set_optimizer(model: keras.Model, optimizer: keras.optimizers.Optimizer | None) -> None:
    """Let callbacks such as ReduceLROnPlateau find `model.optimizer`, or take it away again.

    Past Keras' own setter: TensorFlow would track the optimizer for good, and a SavedModel exported later would hold it. `compile`
    would make it part of the model's configuration and file.
    """
    object.__setattr__(model, "optimizer", optimizer)


@contextlib.contextmanager
def _without_optimizer(model: keras.Model) -> Iterator[None]:
    """Within it the model has no optimizer, so that none is saved with it."""
    optimizer = model.optimizer
    set_optimizer(model, None)
    try:
        yield
    finally:
        set_optimizer(model, optimizer)
