"""The names of optimizers, schedules, callbacks, image changes and export formats, known without importing TensorFlow.

The code that makes them is in jobs; tests/jobs/training/test_choices.py compares the two, and these with Keras itself.
"""

OPTIMIZERS = frozenset(
    "adadelta adafactor adagrad adam adamax adamw ftrl lamb lion multioptimizer muon nadam rmsprop schedulefreeadamw sgd".split()  # noqa: SIM905
)
"""In lower case; a spec may write them in any case, and with hyphens."""

SCHEDULES = frozenset({"cosine", "linear", "one-cycle", "exponential", "piecewise"})
KERAS_SCHEDULES = frozenset(
    ["CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay", "PiecewiseConstantDecay", "PolynomialDecay"]
)

CALLBACKS = frozenset(["CSVLogger", "EarlyStopping", "OrbaxCheckpoint", "ReduceLROnPlateau", "TerminateOnNaN"])
REFUSED_CALLBACKS = {
    "ModelCheckpoint": "checkpoints are in the store already: set checkpoint.keep_best",
    "BackupAndRestore": "a run resumes from its own checkpoints",
    "TensorBoard": "TensorBoard files are in the store already",
    "RemoteMonitor": "metrics are in the store already",
    "CallbackList": "list the callbacks themselves",
    "History": "the history is in the store already",
    "ProgbarLogger": "progress is shown already",
    "LearningRateScheduler": "it takes a function: use a schedule as optimizer.learning_rate",
    "LambdaCallback": "it takes functions: write a callback of your own, my_package.module:make",
    "SwapEMAWeights": "it exchanges weights between evaluations, which checkpoints do not see",
}

AUGMENTATIONS = frozenset({"cutout", "flip", "shift"})

EXPORT_FORMATS = {"keras": "model.keras", "savedmodel": "saved_model", "tflite": "model.tflite"}
"""The forms of an exported model, each with the name of its file or folder."""


def canonical_optimizer(name: str) -> str:
    """`Adam-W` as OPTIMIZERS has it."""
    return name.lower().replace("-", "")
