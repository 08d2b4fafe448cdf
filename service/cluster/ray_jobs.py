"""Drivers as jobs of a Ray cluster elsewhere, submitted through its Jobs API."""

import contextlib
import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from service.cluster.base import Cluster, Handle, Job, Request
from service.cluster.driver_jobs import argv, variables
from service.cluster.jobs_api import JobsApi
from service.cluster.nodes import Node, all_here, check_room, is_loopback
from service.cluster.packages import Package, collect
from service.cluster.ray_states import LIVING, outcome_of
from service.errors import ClusterUnreachable, DelaylineError, InfrastructureFailure, InvalidInput
from service.records import user_package
from service.settings import Settings
from service.specs.parts import Resources
from service.storage import open_store
from service.storage.location import S3Location, parse_location

LOOK_SECONDS = 1.0
"""Between looks at a job (assumed)."""
AWAY_SECONDS = 9.0
"""A cluster that was silent for so long is given up; with a last look this is said within 15 s."""
STOP_SECONDS = 10.0
"""How long a job that is stopped at once may take to end (assumed)."""
OUTPUT_BYTES = 64 * 1024
"""Of a job's output that much of the end is shown (assumed: a few screens)."""
SUPERVISED = "delayline_supervised"
"""What the metadata of a supervisor's job hold, beside `delayline_run`."""
_SUPERVISOR_OF_OLDER = re.compile(r"\s-m\s+service\.(cluster|submission)\.detached\s")
"""What such a job runs as versions before that entry submitted it."""

Document = dict[str, Any]


@dataclass(frozen=True)
class RayJobRequest(Request):
    """A job as the Jobs API takes it, and the user's code that goes into the store for it."""

    job: Job
    number: int
    """Of the submission among the run's."""
    argv: tuple[str, ...]
    variables: Mapping[str, str]
    package: Package | None = None
    waiting: Document | None = None
    """The submission of this number that waits in the cluster; it is taken, and nothing is sent."""

    @property
    def sent(self) -> Document:
        """What the Jobs API is sent."""
        metadata = {"delayline_run": self.job.run_id, **({SUPERVISED: "yes"} if self.job.supervised else {})}
        return {
            "submission_id": submission_id(self.job.run_id, self.number),
            "entrypoint": f"exec {shlex.join(self.argv)}",
            "runtime_env": {"env_vars": dict(self.variables)},
            "metadata": metadata,
        }

    def document(self) -> Document:
        """The job as it is submitted, and the files that travel with it."""
        files: Document = {"files": [], "bytes": 0}
        if self.package:
            key = user_package.key_of(self.package.sha256)
            files = {"files": list(self.package.files), "bytes": self.package.size, "key": key}
        return {"command": list(self.argv), "submission": {**self.sent, "upload": files}}


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

    def request(self, job: Job) -> "RayJobRequest":
        """The job with the number of its next submission; that of the last one where this waits still."""
        package = collect(job.modules, job.folder, job.data)
        number, waiting = self._last_number.get(job.run_id, 0), None
        if not number:
            number, latest = self._latest(job.run_id)
            waiting = latest if latest is not None and latest["status"] == "PENDING" else None
        folder = user_package.REFERENCE + package.sha256 if package else "."
        command = argv(job, "python", self._store_there(job), folder)
        return RayJobRequest(job, number if waiting else number + 1, command, variables(self._settings), package, waiting)

    def start(self, request: Request) -> "RayJobHandle":
        """Put the user's code into the store if need be and submit the job.

        One that somebody else submitted meanwhile is taken instead, and if it has ended already the next number.
        """
        if not isinstance(request, RayJobRequest):
            raise TypeError(f"{type(request).__name__} is of another cluster")
        if request.waiting is not None:
            return self._handle(request.job.run_id, request.number, request.waiting)
        if request.package is not None:
            user_package.keep(open_store(self._settings), request.job.run_id, request.package.archive)
        while True:
            sent = request.sent
            taken = None if self._api.submit(sent) else self._api.job(sent["submission_id"])
            if taken is None or taken["status"] in LIVING:
                return self._handle(request.job.run_id, request.number, taken or sent)
            request = replace(request, number=request.number + 1)

    def find(self, run_id: str) -> "RayJobHandle | None":
        number, latest = self._latest(run_id)
        return self._handle(run_id, number, latest) if latest is not None and latest["status"] in LIVING else None

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
        return RayJobHandle(self._api, run_id, document["submission_id"], quiet=is_supervisor(document))

    def _store_there(self, job: Job) -> str:
        """The store as the nodes reach it: an endpoint on this machine's own loopback is none of theirs."""
        location = parse_location(self._settings.store, self._settings.s3_endpoint)
        if not isinstance(location, S3Location) or location.endpoint is None:
            return job.store_url
        foreign = is_loopback(urlsplit(location.endpoint).hostname or "") and not self._is_here()
        return S3Location(location.bucket, location.prefix, None).url if foreign else job.store_url


def submission_id(run_id: str, number: int) -> str:
    """The id of a run's submission; Ray keeps the ids of jobs that have ended and takes none twice."""
    return f"delayline-{run_id}-{number}"


def number_of(run_id: str, identity: str) -> int:
    """The number in a submission's id; 0 when it is not this run's."""
    match = re.fullmatch(rf"delayline-{re.escape(run_id)}-([1-9][0-9]{{0,8}})", identity)
    return int(match[1]) if match else 0


def is_supervisor(submission: Document) -> bool:
    """Whether a job is a supervisor, by its metadata or, of an older version, which wrote none, by what it runs."""
    entrypoint = str(submission.get("entrypoint") or "")
    return SUPERVISED in (submission.get("metadata") or {}) or _SUPERVISOR_OF_OLDER.search(entrypoint) is not None


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
            f"The cluster {self._api.url} {what}: if the run is still driven there, `delayline runs watch {self._run_id}` shows it; "
            f"if the cluster is gone, the same command with another --cluster resumes from the last checkpoint."
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
