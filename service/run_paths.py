"""Every key that a run, a sweep or a dataset owns in the store. Keys use `/` and have no leading slash."""

from dataclasses import dataclass

from service.names import check_label, check_run_id

RUNS = "runs/"
"""Runs and sweeps alike, so that an id stands for one of them and the commands for runs work on both."""
DATASETS = "datasets/"


@dataclass(frozen=True)
class RunPaths:
    """The keys of one run. Each document has one writer, named behind it."""

    run_id: str

    def __post_init__(self) -> None:
        check_run_id(self.run_id)

    @property
    def root(self) -> str:
        return f"{RUNS}{self.run_id}/"

    @property
    def spec(self) -> str:
        """Written once, by the submitter; of a trial that takes over from another one again, by its process."""
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
    def cancel(self) -> str:
        """A request to stop at the next step: whoever cancels; the driver removes it."""
        return f"{self.root}cancel.json"

    @property
    def progress(self) -> str:
        """Epoch, step, latest metrics and the workers of the current attempt: rank 0."""
        return f"{self.root}progress.json"

    @property
    def metrics(self) -> str:
        """One row a report: rank 0."""
        return f"{self.root}metrics.jsonl"

    def events(self, attempt: int, writer: str) -> str:
        """What happened, in one file for each attempt and writer, merged by time when read."""
        return f"{self.root}events/{attempt:04d}-{check_label(writer, 'The writer')}.jsonl"

    @property
    def events_root(self) -> str:
        return f"{self.root}events/"

    def failure(self, attempt: int, rank: int) -> str:
        """Why a worker ended hard: that worker."""
        return f"{self.root}failures/{attempt:04d}-rank-{rank}.json"

    def failures_root(self, attempt: int) -> str:
        return f"{self.root}failures/{attempt:04d}-"

    @property
    def checkpoints(self) -> str:
        return f"{self.root}checkpoints/"

    def checkpoint(self, step: int) -> str:
        """The folder of the checkpoint at `step`; complete once it holds `manifest.json`."""
        return f"{self.checkpoints}{step:010d}/"

    @property
    def logs(self) -> str:
        return f"{self.root}logs/"

    def log(self, attempt: int, rank: int) -> str:
        return f"{self.logs}{attempt}/rank-{rank}.log"

    @property
    def tensorboard(self) -> str:
        return f"{self.root}tensorboard/"

    @property
    def model(self) -> str:
        return f"{self.root}model.keras"

    @property
    def model_facts(self) -> str:
        """The model's layers, the data's counts, versions: rank 0, before the first step."""
        return f"{self.root}analysis/model.json"

    def hardware(self, rank: int) -> str:
        """The machine of a worker of the newest attempt: that worker."""
        return f"{self.root}analysis/rank-{rank}.json"

    @property
    def pictures(self) -> str:
        """Mistakes, filters and activations as arrays of bytes, by safetensors: rank 0."""
        return f"{self.root}analysis/pictures.safetensors"

    @property
    def results(self) -> str:
        """What the trained model makes of the test split: rank 0, after the pictures."""
        return f"{self.root}analysis/results.json"

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
