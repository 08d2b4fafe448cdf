"""What the documents hold that say what was submitted, and how."""

from typing import Literal

from pydantic import JsonValue

from service.records.stored_document import StoredDocument

Kind = Literal["train", "sweep"]
Workers = int | str | tuple[int, ...]
"""A number of workers, or a range."""


class Summary(StoredDocument):
    """What a list of runs shows of a submission."""

    kind: Kind = "train"
    model: str | None = None
    dataset: str | None = None
    workers: Workers | None = None
    submitted: float | None = None
    tags: tuple[str, ...] = ()
    sweep: str | None = None


class FirstWeights(StoredDocument):
    """The object in the store that holds a run's first weights, and what is known of it before it is read."""

    key: str
    run: str | None = None
    """The run that made it; with the `step` of its checkpoint where it is one."""
    step: int | None = None
    sha256: str | None = None
    """What the checkpoint's manifest says."""
    classes: tuple[str, ...] | None = None
    """The classes of the data that the run learned, where that dataset is still there."""

    def __str__(self) -> str:
        if self.run is None:
            return f"the file {self.key}"
        return f"the run {self.run}" + (f" at step {self.step}" if self.step is not None else "")


class Origin(StoredDocument):
    """How a run was submitted."""

    recipe: str | None = None
    command: tuple[str, ...] | None = None
    folder: str | None = None
    dataset_version: str | None = None
    init_from: FirstWeights | None = None
    queued_seconds: float | None = None
    """For how long the cluster may take to start the driver, where that is longer than a process takes."""
    sweep: str | None = None
    """The sweep that the run is a trial of; with the `point` and its `params`."""
    point: int | None = None
    params: dict[str, JsonValue] | None = None
    mutations: int = 0
    """How often the trial took another one's weights; the last time those of the step `taken`, None where it kept its own."""
    taken: int | None = None


class SubmissionDocument(Origin):
    """`spec.json`: what was asked for, and how. `spec` is one of service.specs, as that version wrote it."""

    kind: Kind = "train"
    spec: dict[str, JsonValue]
    submitted: float | None = None
    nonce: str = ""

    @property
    def is_sweep(self) -> bool:
        """Whether it is a sweep's and not a run's."""
        return self.kind == "sweep"

    @property
    def dataset(self) -> str:
        """The dataset of a run's spec, in the version that the run was submitted with where that is known."""
        named = str(self.spec["dataset"])
        return named if "@" in named or self.dataset_version is None else f"{named}@{self.dataset_version}"

    @property
    def dataset_params(self) -> dict[str, JsonValue] | None:
        """Of a run's spec: what its dataset is generated with."""
        found = self.spec.get("dataset_params")
        return found if isinstance(found, dict) else None
