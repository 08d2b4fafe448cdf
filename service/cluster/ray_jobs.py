"""Drivers as jobs of a Ray cluster elsewhere, submitted through its Jobs API."""

import contextlib
import re
import shlex
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from service.cluster.base import Cluster, Handle, Job
from service.cluster.jobs_api import JobsApi
from service.cluster.nodes import Node, all_here, check_room, is_loopback
from service.cluster.packages import Package, collect
from service.errors import ClusterUnreachable, DelaylineError, InfrastructureFailure, InvalidInput
from service.records import user_package
from service.settings import Settings
from service.specs.train import Resources
from service.storage import open_store
from service.storage.location import S3Location, parse_location

LOOK_SECONDS = 1.0
"""Between looks at a job (assumed)."""
AWAY_SECONDS = 9.0
"""A cluster that was silent for so long is given up; with a last look this is said within 15 s."""
STOP_SECONDS = 10.0
"""How long a job that is stopped at once may take to end (assumed)."""
SAVE_SECONDS = 100
"""How long Ray lets a stopped job save before it kills it; more than its driver allows its workers. Ray's own default is 3."""
OUTPUT_BYTES = 64 * 1024
"""Of a job's output that much of the end is shown (assumed: a few screens)."""
LIVING = frozenset({"PENDING", "RUNNING"})
DIED = -9
"""The exit code that stands for a job of which Ray lost the process."""
_SENT = ("store_patience", "ring_timeout", "wait_limit")
"""The settings that a user may give for a run on a cluster; the others are the cluster's own."""
_SUPERVISES = "service.submission.detached"

Document = dict[str, Any]


class RayJobs(Cluster):
    """A Ray cluster behind the address of its dashboard.

    Nothing of this process's environment goes there: credentials must be in the cluster's own.
    """

    def __init__(self, api: JobsApi, settings: Settings) -> None:
        self._api = api
        self._settings = settings
        self._nodes: list[Node] | None = None
        self._last_number: dict[str, int] = {}
        self.description = f"the Ray cluster at {api.url}"

    def start(self, job: Job) -> "RayJobHandle":
        """Put the user's code into the store if need be and submit the job; one that somebody else submits meanwhile is taken instead."""
        package = collect(job.modules, job.folder, job.data)
        number = self._last_number.get(job.run_id, 0)
        if not number:
            number, latest = self._latest(job.run_id)
            if latest is not None and latest["status"] == "PENDING":
                return self._handle(job.run_id, number, latest)
        if package is not None:
            user_package.keep(open_store(self._settings), job.run_id, package.archive)
        while True:
            number += 1
            document = self._document(job, number, package)
            taken = None if self._api.submit(document) else self._api.job(document["submission_id"])
            if taken is None or taken["status"] in LIVING:
                return self._handle(job.run_id, number, taken or document)

    def find(self, run_id: str) -> "RayJobHandle | None":
        number, latest = self._latest(run_id)
        return self._handle(run_id, number, latest) if latest is not None and latest["status"] in LIVING else None

    def preview(self, job: Job) -> Document:
        """The job as it would be submitted, and the files that would travel with it."""
        package = collect(job.modules, job.folder, job.data)
        document = self._document(job, self._latest(job.run_id)[0] + 1, package)
        files: Document = {"files": [], "bytes": 0}
        if package:
            files = {"files": list(package.files), "bytes": package.size, "key": user_package.key_of(package.sha256)}
        return {"command": shlex.split(document["entrypoint"])[1:], "submission": {**document, "upload": files}}

    def check_code(self, job: Job) -> None:
        collect(job.modules, job.folder, job.data)

    def check_resources(self, workers: int, worker: Resources) -> None:
        """A cluster that may grow is not measured."""
        if self._api.has_fixed_size():
            check_room(self._known_nodes(), workers, worker, self.description)

    def check_store(self, url: str) -> None:
        """A folder must be shared with the nodes; to write it as a file URL says that it is."""
        text = self._settings.store
        if isinstance(parse_location(text, self._settings.s3_endpoint), S3Location) or text.lower().startswith("file:"):
            return
        if not self._is_here():
            where = ", ".join(sorted({node.address for node in self._known_nodes()})[:3])
            raise InvalidInput(
                f"The store {url} is a folder of this machine and the cluster's nodes are others ({where}): use "
                f"s3://bucket/prefix, or, if the nodes share that folder, --store file://{url}."
            )

    def _known_nodes(self) -> list[Node]:
        if self._nodes is None:
            self._nodes = [Node.of(node) for node in self._api.nodes()]
        return self._nodes

    def _is_here(self) -> bool:
        return all_here(self._known_nodes())

    def _latest(self, run_id: str) -> tuple[int, Document | None]:
        """The number of the run's last submission to this cluster and its job; 0 and None before the first."""
        found: tuple[int, Document | None] = (0, None)
        for job in self._api.jobs():
            number = number_of(run_id, str(job.get("submission_id")))
            if number > found[0]:
                found = number, job
        return found

    def _handle(self, run_id: str, number: int, document: Document) -> "RayJobHandle":
        self._last_number[run_id] = number
        return RayJobHandle(self._api, run_id, document["submission_id"], quiet=_SUPERVISES in document["entrypoint"])

    def _document(self, job: Job, number: int, package: Package | None) -> Document:
        given = {name: str(getattr(self._settings, name)) for name in _SENT if name in self._settings.model_fields_set}
        return job_document(job, number, self._store_there(job), package, given)

    def _store_there(self, job: Job) -> str:
        """The store as the nodes reach it: an endpoint on this machine's own loopback is none of theirs."""
        url = job.argv[job.argv.index("--store") + 1]
        location = parse_location(self._settings.store, self._settings.s3_endpoint)
        if not isinstance(location, S3Location) or location.endpoint is None:
            return url
        foreign = is_loopback(urlsplit(location.endpoint).hostname or "") and not self._is_here()
        return S3Location(location.bucket, location.prefix, None).url if foreign else url


def submission_id(run_id: str, number: int) -> str:
    """The id of a run's submission; Ray keeps the ids of jobs that have ended and takes none twice."""
    return f"delayline-{run_id}-{number}"


def number_of(run_id: str, identity: str) -> int:
    """The number in a submission's id; 0 when it is not this run's."""
    match = re.fullmatch(rf"delayline-{re.escape(run_id)}-([1-9][0-9]{{0,8}})", identity)
    return int(match[1]) if match else 0


def job_document(job: Job, number: int, store_url: str, package: Package | None, given: dict[str, str]) -> Document:
    """The job as the Jobs API takes it: `given` are settings by name; nothing else comes from an environment."""
    variables = {
        "RAY_JOB_STOP_WAIT_TIME_S": str(SAVE_SECONDS),
        # A supervisor in the cluster drives the run there and submits it nowhere else.
        "DELAYLINE_CLUSTER": "",
        # Whatever lies where Ray was started: no module of the job's is looked for there.
        "PYTHONSAFEPATH": "1",
        **{f"DELAYLINE_{name.upper()}": value for name, value in given.items()},
    }
    folder = user_package.REFERENCE + package.sha256 if package else "."
    return {
        "submission_id": submission_id(job.run_id, number),
        "entrypoint": entrypoint(job.argv, {"--store": store_url, "--folder": folder}),
        "runtime_env": {"env_vars": variables},
        "metadata": {"delayline_run": job.run_id},
    }


def entrypoint(argv: Sequence[str], options: dict[str, str]) -> str:
    """The shell's command for a job: the cluster's own Python, and `options` in the place of this machine's."""
    words = ["python", *argv[1:]]
    for name, value in options.items():
        words[words.index(name) + 1] = value
    return f"exec {shlex.join(words)}"


class RayJobHandle(Handle):
    """A job in the cluster. `quiet`: it is a supervisor, which moves its driver's output to the store itself."""

    def __init__(self, api: JobsApi, run_id: str, identity: str, quiet: bool = False) -> None:
        self._api = api
        self._run_id = run_id
        self._id = identity
        self._quiet = quiet
        self._code: int | None = None
        self._problem = ""
        self._answered = time.monotonic()
        self._next_look = 0.0

    def poll(self) -> int | None:
        """As the base says; raise ClusterUnreachable once the cluster was silent for too long or forgot the job."""
        if self._code is None and time.monotonic() >= self._next_look:
            self._look()
        return self._code

    def _look(self) -> None:
        try:
            job = self._api.job(self._id)
        except InfrastructureFailure as error:
            # A dashboard whose cluster died under it answers for a while, with failures.
            if time.monotonic() - self._answered > AWAY_SECONDS:
                raise ClusterUnreachable(self._advice(f"has not answered for {AWAY_SECONDS:g} s")) from error
        else:
            if job is None:
                raise ClusterUnreachable(self._advice(f"knows no job {self._id} any more"))
            self._answered = time.monotonic()
            self._code, self._problem = outcome_of(job)
        self._next_look = time.monotonic() + LOOK_SECONDS

    def _advice(self, what: str) -> str:
        return (
            f"The cluster {self._api.url} {what}: if the run goes on there, `delayline runs watch {self._run_id}` shows it; "
            f"if the cluster is gone, the same command with another --cluster goes on from the last checkpoint."
        )

    def stop(self, grace: float = STOP_SECONDS) -> None:
        """Ask Ray to stop the job, and wait `grace` seconds at most; Ray kills it by and by if it does not end."""
        if self._code is not None:
            return
        with contextlib.suppress(DelaylineError):
            self._api.stop(self._id)
            deadline = time.monotonic() + max(grace, STOP_SECONDS)
            while self.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)

    def output(self) -> str:
        printed = ""
        if not self._quiet:
            with contextlib.suppress(DelaylineError):
                printed = self._api.logs(self._id)[-OUTPUT_BYTES:]
        return f"{printed}\nError: {self._problem}\n" if self._problem else printed


def outcome_of(job: Document) -> tuple[int | None, str]:
    """The exit code that a job's document stands for, None while it lives, and what is wrong with the cluster, if anything.

    A process that a signal ended has the signal's negative number.
    """
    status, code, message = job["status"], job.get("driver_exit_code"), str(job.get("message") or "")
    if status in LIVING:
        return None, ""
    if status != "FAILED":
        return (0 if status == "SUCCEEDED" else 130), ""
    if code is None:
        lost = job.get("error_type") in ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")
        said = " ".join(message.split())[:300]
        return (DIED, "") if lost else (4, f"The cluster could not start the job: {said}")
    if code in (126, 127):
        return 4, "The cluster has no `python` on its PATH: start Ray from the environment that holds Delayline."
    if code == 1 and re.search(r"No module named '?(jobs|service)\b", message):
        return 4, "Delayline is not installed in the cluster's Python: install it on every node, the head included."
    return (128 - code if 128 < code < 128 + 65 and code != 130 else code), ""
