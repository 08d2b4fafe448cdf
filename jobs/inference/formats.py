"""The formats of an exported model, one class each: how it is written, and how the written one predicts."""

import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from jobs.command_line import silenced
from jobs.inference.finished_run import FinishedRun
from jobs.models.registry import model_inputs
from service.errors import UserFailure
from service.specs.choices import EXPORT_FORMATS

Features = dict[str, NDArray[Any]]
"""By name, [examples, …], as the run hands them to its model: divided by their scale, or not."""
Answers = Callable[[Features], NDArray[np.float32]]
"""From features to logits, [examples, classes]."""


def inputs_of(model: keras.Model, features: Features) -> Any:
    """What a model takes out of features, in the types of its inputs."""
    given = model_inputs(model, features)
    wanted = getattr(model, "inputs", None) or []
    if isinstance(given, list) and len(given) == len(wanted):
        return [tf.cast(value, tensor.dtype) for value, tensor in zip(given, wanted, strict=True)]
    return tf.cast(given, wanted[0].dtype) if len(wanted) == 1 and not isinstance(given, dict) else given


def answers_of(model: keras.Model) -> Answers:
    """What a model itself answers."""

    def ask(features: Features) -> NDArray[np.float32]:
        return np.asarray(keras.ops.convert_to_numpy(model(inputs_of(model, features), training=False)), np.float32)

    return ask


class Form(ABC):
    """A file or a folder of a fixed name in the folder that is exported to."""

    file: ClassVar[str]

    @abstractmethod
    def write(self, model: keras.Model, folder: Path) -> None:
        """Write the model into `folder`; raise UserFailure for one that has not this form."""

    @abstractmethod
    def open(self, run: FinishedRun, model: keras.Model, folder: Path) -> Answers:
        """What stands in `folder` now, ready to be asked."""

    def why_unchecked(self) -> str | None:
        """Why what was written cannot be asked on this machine; None where it can."""
        return None


class KerasFile(Form):
    """`keras.saving.load_model` opens it; a user's own layers must be importable there."""

    file = EXPORT_FORMATS["keras"]

    def write(self, model: keras.Model, folder: Path) -> None:
        # The file that the run kept is there already.
        if (folder / self.file).exists():
            return
        try:
            model.save(folder / self.file)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise UserFailure(
                f"Keras cannot save this model as a file: {_first_words(error)}; give its layers get_config()."
            ) from error

    def open(self, run: FinishedRun, model: keras.Model, folder: Path) -> Answers:
        return answers_of(run.open_file(folder / self.file))


class SavedModel(Form):
    """TensorFlow Serving and `tf.saved_model.load` take it."""

    file = EXPORT_FORMATS["savedmodel"]

    def write(self, model: keras.Model, folder: Path) -> None:
        if not (folder / self.file).exists():
            model.export(folder / self.file, verbose=False)

    def open(self, run: FinishedRun, model: keras.Model, folder: Path) -> Answers:
        loaded = tf.saved_model.load(str(folder / self.file))

        def ask(features: Features) -> NDArray[np.float32]:
            return np.asarray(loaded.serve(inputs_of(model, features)), np.float32)

        return ask


class TFLite(Form):
    """For phones and small devices, without quantisation; made from the SavedModel."""

    file = EXPORT_FORMATS["tflite"]

    def write(self, model: keras.Model, folder: Path) -> None:
        SavedModel().write(model, folder)
        try:
            with silenced():
                data = tf.lite.TFLiteConverter.from_saved_model(str(folder / SavedModel.file)).convert()
        except Exception as error:
            operations = sorted(set(re.findall(r"\btf\.[A-Z]\w+", str(error))))
            why = f"it has no {', '.join(operations[:5])}, as recurrent layers need" if operations else _first_words(error)
            raise UserFailure(f"This model cannot become a TFLite file: {why}; export it as keras or savedmodel.") from error
        (folder / self.file).write_bytes(data)

    def open(self, run: FinishedRun, model: keras.Model, folder: Path) -> Answers:
        # A program of its own on phones, so not part of TensorFlow.
        from ai_edge_litert.interpreter import Interpreter

        with silenced():
            interpreter = Interpreter(model_path=str(folder / self.file))
        (name,) = interpreter.get_signature_list()
        runner = interpreter.get_signature_runner(name)
        names = interpreter.get_signature_list()[name]["inputs"]

        def ask(features: Features) -> NDArray[np.float32]:
            given = inputs_of(model, features)
            values = [np.asarray(value) for value in (given if isinstance(given, list) else [given])]
            ordered = names if len(names) == 1 else [tensor.name for tensor in model.inputs]
            with silenced():
                (logits,) = runner(**dict(zip(ordered, values, strict=True))).values()
            return np.asarray(logits, np.float32)

        return ask

    def why_unchecked(self) -> str | None:
        """LiteRT has wheels for Linux with glibc, macOS on ARM and Windows on x86-64 alone."""
        if importlib.util.find_spec("ai_edge_litert") is not None:
            return None
        return "LiteRT, which runs TFLite files, is not installed here (pip install ai-edge-litert, where there is a wheel)"


FORMS: dict[str, Form] = {"keras": KerasFile(), "savedmodel": SavedModel(), "tflite": TFLite()}


def _first_words(error: Exception) -> str:
    """The first paragraph of an error, as one line."""
    return " ".join(str(error).strip().split("\n\n")[0].split()).rstrip(".")[:300] or type(error).__name__
