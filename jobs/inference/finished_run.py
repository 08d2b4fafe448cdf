"""The model of a run that succeeded, with its weights, for whoever uses it: export, predict, another run."""

import sys
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.datasets.load import find_run_dataset
from service.datasets import Manifest
from service.errors import BadData, Damaged, InvalidInput, NotFound, UserFailure
from service.records.run_record import RunRecord
from service.records.schemas import RunState, StateDocument
from service.records.submission_schemas import SubmissionDocument
from service.specs.train import TrainSpec
from service.user_folder import folder_of_modules

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class FinishedRun:
    """A run that succeeded, as its documents say it. Nothing here imports TensorFlow before a model is loaded."""

    record: RunRecord
    submission: SubmissionDocument
    state: StateDocument
    folder: str
    """Where a user's own module is found."""

    @cached_property
    def spec(self) -> TrainSpec:
        """The run's spec."""
        return TrainSpec.model_validate(self.submission.spec)

    @cached_property
    def dataset(self) -> Manifest:
        """The dataset, in the version that the run was trained on, with the features that the model gets."""
        found = find_run_dataset(self.spec, self.record.store, self.submission.dataset_version)
        return found.inputs(self.spec.sample_weight, self.spec.scale)

    def model(self, scratch: Path) -> "keras.Model":
        """The model with its weights, by way of a file in the folder `scratch`.

        Raise InvalidInput when the store has neither the model nor a checkpoint, UserFailure for what is wrong with a user's
        own code.
        """
        file = scratch / "model.keras"
        try:
            self.record.store.download(self.record.paths.model, file)
        except NotFound:
            return self._from_checkpoint()
        return self.open_file(file)

    def open_file(self, file: Path) -> "keras.Model":
        """The model in a `.keras` file of this run; a user's own is built again by their function and takes its weights.

        Raise Damaged for a file that is none, or unpacks to far more than its size; UserFailure where a user's function makes
        another model by now.
        """
        import keras

        # Keras finds the layers of the networks made by hand by their registration.
        import jobs.layers.context  # noqa: F401

        own = self.built() if self.spec.user_module is not None else None
        self._check_file(file)
        try:
            if own is None:
                model: keras.Model = keras.saving.load_model(file, compile=False, safe_mode=True)
                return model
            own.load_weights(file)
            return own
        except Exception as error:
            from jobs.user_code import describe

            if own is not None and isinstance(error, ValueError):
                raise UserFailure(
                    f"The weights of the run {self.record.run_id!r} do not fit the model that {self.spec.model} makes now "
                    f"({describe(error)}): use the code with which it was trained."
                ) from error
            raise self._damaged(describe(error)) from error

    def _check_file(self, file: Path) -> None:
        from jobs.artifacts.keras_files import check_keras_file

        try:
            check_keras_file(file, self.record.paths.model)
        except BadData as error:
            raise self._damaged(str(error)) from error
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
            raise self._damaged(f"it is no whole archive: {' '.join(str(error).split())[:200]}") from error

    def _damaged(self, why: str) -> Damaged:
        where = f"{self.record.paths.model} in {self.record.store.url}"
        return Damaged(
            f"The model {where} cannot be opened ({why.rstrip('.')}): delete this object, and the run's last checkpoint is used."
        )

    def built(self) -> "keras.Model":
        """The model as the spec makes it, with new weights."""
        from jobs.models.registry import build_model
        from jobs.tasks.registry import task_for

        task = task_for(self.spec)
        shapes = {feature.name: feature.shape for feature in self.dataset.features}
        return build_model(self.spec, shapes, task.outputs(len(self.dataset.classes)), self.folder, task.every_step)

    def _from_checkpoint(self) -> "keras.Model":
        from jobs.artifacts.checkpoints import CheckpointStore
        from jobs.training.variables import assign_variables

        checkpoints = CheckpointStore(self.record, self.spec.checkpoint)
        stopping = self.spec.early_stopping
        best = checkpoints.best_kept() if stopping and stopping.restore_best else None
        snapshot = (
            checkpoints.load(best) if best is not None else checkpoints.load_newest(lambda step, why: print(why, file=sys.stderr))
        )
        if snapshot is None:
            raise InvalidInput(f"The run {self.record.run_id!r} has neither a model nor a checkpoint in {self.record.store.url}.")
        model = self.built()
        assign_variables(model.variables, snapshot.result)
        return model


def finished_run(record: RunRecord, purpose: str, trust_folder: bool = False) -> FinishedRun:
    """The run, or InvalidInput for one that has not succeeded; `purpose` ends the sentence: `to export`.

    A user's own module must be in the current folder, or where `trust_folder` in the one that the store names.
    """
    submission, state = record.submission(), record.state()
    if state.state != RunState.SUCCEEDED:
        raise InvalidInput(f"The run {record.run_id!r} is {state.state}: only a run that succeeded has a model {purpose}.")
    folder = folder_of_modules(record.run_id, submission.spec, submission.folder, trust_folder)
    return FinishedRun(record, submission, state, folder)
