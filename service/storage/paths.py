"""Every key that a run, a sweep or a dataset owns in the store. Keys use `/` and have no leading slash."""

import re
import secrets
from dataclasses import dataclass

from service.names import check_label, check_run_id

RUNS = "runs/"
"""Runs and sweeps alike, so that an id is one of them and the commands for runs work on both."""
DATASETS = "datasets/"
PACKAGES = "packages/"
"""The users' own code of runs on clusters, by its sha256."""
LOG_PART = 256 * 1024
"""Bytes of each part of a worker's log but the last (assumed: what is copied again is small, and a long log has few parts)."""
MODEL_FACTS, PICTURES, RESULTS = "model.json", "pictures.safetensors", "results.json"
_LABEL = re.compile(r"(\d+)(?:-([0-9a-f]{8}))?(?=[-/.]|\Z)")


def hardware_name(rank: int) -> str:
    """What the description of a worker's machine is called."""
    return f"rank-{rank}.json"


def new_nonce() -> str:
    """What distinguishes a run from deleted ones that had the same id: part of the keys of all that its attempts write."""
    return secrets.token_hex(4)


def attempt_label(number: int, nonce: str) -> str:
    """An attempt's part of its keys, so that no two attempts write to the same one; runs of the first format have no nonce."""
    return f"{number:04d}-{nonce}" if nonce else f"{number:04d}"


def number_of(label: str, nonce: str) -> int | None:
    """The attempt whose label begins `label`; None where that is no label, or one of another run that had the id before.

    What a run of the first format has written has no nonce, and is named by the attempt's bare number in its logs.
    """
    match = _LABEL.match(label)
    return int(match[1]) if match and (match[2] or "") == nonce else None


@dataclass(frozen=True)
class RunPaths:
    """The keys of one run, each with the process that writes it; `label` is an attempt's, see `attempt_label`."""

    run_id: str

    def __post_init__(self) -> None:
        check_run_id(self.run_id)

    @property
    def root(self) -> str:
        return f"{RUNS}{self.run_id}/"

    @property
    def spec(self) -> str:
        """Written once, by the submitter; a trial that exploits another one writes its own again."""
        return f"{self.root}spec.json"

    @property
    def lease(self) -> str:
        """Who drives the run, and the heartbeat: the driver, by compare-and-swap."""
        return f"{self.root}lease.json"

    @property
    def state(self) -> str:
        """State, attempts, result and error: the driver."""
        return f"{self.root}state.json"

    @property
    def package(self) -> str:
        """Which package is the user's own code, of a run that was sent to a cluster with some: whoever submits, at each start."""
        return f"{self.root}package.json"

    @property
    def cancel(self) -> str:
        """A request to stop at the next step: whoever cancels, or withdraws it; never a driver."""
        return f"{self.root}cancel.json"

    @property
    def note(self) -> str:
        """A person's note on the run: whoever writes one; never a driver."""
        return f"{self.root}note.json"

    @property
    def progress(self) -> str:
        """Epoch, step, latest metrics and the workers of the current attempt: rank 0."""
        return f"{self.root}progress.json"

    @property
    def metrics(self) -> str:
        """The rows of metrics of a run of the first format."""
        return f"{self.root}metrics.jsonl"

    @property
    def metrics_index(self) -> str:
        """Which parts of the rows of metrics count: rank 0 of the attempt at work, by compare-and-swap."""
        return f"{self.root}metrics.json"

    @property
    def metrics_root(self) -> str:
        return f"{self.root}metrics/"

    def metrics_part(self, label: str, number: int) -> str:
        """Rows of metrics that follow each other, one a report: rank 0."""
        return f"{self.metrics_root}{label}.{number:06d}.jsonl"

    def events(self, label: str, writer: str, part: int = 0) -> str:
        """What happened, in files of each attempt and writer, merged by time when read."""
        number = f".{part:06d}" if part else ""
        return f"{self.root}events/{label}-{check_label(writer, 'The writer')}{number}.jsonl"

    @property
    def events_root(self) -> str:
        return f"{self.root}events/"

    def failure(self, label: str, rank: int) -> str:
        """Why a worker ended hard: that worker."""
        return f"{self.failures_root(label)}rank-{rank}.json"

    def failures_root(self, label: str) -> str:
        return f"{self.root}failures/{label}-"

    @property
    def checkpoints(self) -> str:
        return f"{self.root}checkpoints/"

    @property
    def checkpoint_index(self) -> str:
        """Which checkpoints count, and whose they are to replace: rank 0 of the attempt at work, by compare-and-swap."""
        return f"{self.root}checkpoints.json"

    def checkpoint(self, folder: str) -> str:
        """A checkpoint by its folder's name, `<step>-<label>`; complete once it holds `manifest.json`."""
        return f"{self.checkpoints}{folder}/"

    @property
    def logs(self) -> str:
        return f"{self.root}logs/"

    def log(self, label: str, rank: int, part: int = 0) -> str:
        """What a worker of an attempt printed, in parts of `LOG_PART` bytes: that worker."""
        number = f".{part:06d}" if part else ""
        return f"{self.logs}{label}/rank-{rank}{number}.log"

    def driver_log(self, label: str, part: int = 0) -> str:
        """What a driver printed up to and in an attempt: its supervisor; of further drivers in further parts."""
        number = f".{part:06d}" if part else ""
        return f"{self.logs}{label}/driver{number}.log"

    @property
    def tensorboard_root(self) -> str:
        return f"{self.root}tensorboard/"

    def tensorboard(self, label: str) -> str:
        """TensorBoard's files, those of an attempt in a folder, which hold the whole run: rank 0."""
        return f"{self.tensorboard_root}{label}/"

    @property
    def model(self) -> str:
        """The trained model in Keras' format: rank 0, conditionally."""
        return f"{self.root}model.keras"

    @property
    def analysis_root(self) -> str:
        return f"{self.root}analysis/"

    def model_facts(self, label: str) -> str:
        """The model's layers, the data's counts, versions: rank 0, before the first step."""
        return f"{self.analysis_root}{label}/{MODEL_FACTS}"

    def hardware(self, label: str, rank: int) -> str:
        """The machine of a worker: that worker."""
        return f"{self.analysis_root}{label}/{hardware_name(rank)}"

    def pictures(self, label: str) -> str:
        """Mistakes, filters and activations as arrays of bytes, by safetensors: rank 0."""
        return f"{self.analysis_root}{label}/{PICTURES}"

    def results(self, label: str) -> str:
        """What the trained model makes of the test split: rank 0, after the pictures."""
        return f"{self.analysis_root}{label}/{RESULTS}"

    @property
    def trials(self) -> str:
        """Of a sweep: which trials it has, each a run: the sweep's driver."""
        return f"{self.root}trials.json"

    @property
    def report(self) -> str:
        """One HTML page: the driver at the run's end, and whoever asks for one."""
        return f"{self.root}report.html"


@dataclass(frozen=True)
class DatasetPaths:
    """The keys of one version of a dataset."""

    name: str
    version: str

    def __post_init__(self) -> None:
        check_label(self.name, "The dataset name")
        check_label(self.version, "The dataset version")

    @property
    def root(self) -> str:
        return f"{DATASETS}{self.name}/{self.version}/"

    @property
    def manifest(self) -> str:
        """Written last: without it there is no dataset."""
        return f"{self.root}manifest.json"

    def shard(self, split: str, index: int, count: int) -> str:
        return f"{self.root}{check_label(split, 'The split')}-{index:05d}-of-{count:05d}.parquet"
