"""Why a RayJob has not started: told from what Kubernetes and KubeRay write about it, in one sentence with the remedy.

KubeRay's RayJob itself stays `Initializing` with an empty message for most mistakes: each shows at another object, see `why`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Document = dict[str, Any]

UNSEEN_SECONDS = 20.0
"""A RayJob without a status for so long is one that no operator looks at (assumed: an operator takes one up within 2 s)."""
LONGEST = 300
"""Characters of a message that are passed on."""
_WAITING = {
    "ErrImagePull": "correct the image, or the registry's credentials (image_pull_secrets)",
    "ImagePullBackOff": "correct the image, or the registry's credentials (image_pull_secrets)",
    "InvalidImageName": "correct the image's name",
    "ErrImageNeverPull": "load the image onto the node, or set image_pull_policy to IfNotPresent",
    "CreateContainerConfigError": "create what it names, or correct its name in delayline-defaults",
    "CreateContainerError": "correct what it names",
    "RunContainerError": "correct what it names",
    "CrashLoopBackOff": "look at its log with kubectl logs --previous",
}
"""Why a container waits that nobody but a person will start: the kubelet's reason → the remedy."""
_EVENTS = (
    "FailedMount",
    "FailedAttachVolume",
    "FailedCreate",
    "FailedCreatePodSandBox",
    "FailedToCreateWorkerPod",
    "FailedToCreateHeadPod",
)
"""The reasons of events that stop a start and show nowhere else."""


@dataclass(frozen=True)
class Objects:
    """What is known of one RayJob: the documents as the API server gives them; `now` is its clock, in seconds since 1970."""

    job: Document
    cluster: Document | None
    pods: Sequence[Document]
    warnings: Sequence[Document]
    now: float | None = None


def why(found: Objects) -> str | None:
    """What keeps a RayJob from starting, the gravest first; None where nothing does, or it has started."""
    return next(
        (said for look in (_of_job, _of_cluster, _of_containers, _of_events, _of_scheduling) for said in look(found)), None
    )


def _of_job(found: Objects) -> Iterator[str]:
    """The RayJob itself: refused by KubeRay, held back by Kueue, or seen by nobody."""
    status = found.job.get("status") or {}
    state = status.get("jobDeploymentStatus")
    if state == "ValidationFailed" or status.get("reason") == "ValidationFailed":
        yield f"KubeRay refuses the RayJob: {_short(status.get('message'))}"
    if state == "Suspended" or (found.job.get("spec") or {}).get("suspend"):
        queue = ((found.job.get("metadata") or {}).get("labels") or {}).get("kueue.x-k8s.io/queue-name")
        where = f"Kueue's queue {queue} has room for it" if queue else "somebody sets its spec.suspend to false"
        yield f"The RayJob is held back until {where}"
    if not status and found.now is not None and found.now - created(found.job) > UNSEEN_SECONDS:
        yield (
            f"No KubeRay operator has looked at the RayJob for {found.now - created(found.job):.0f} s: look whether one runs and watches "
            f"the namespace, kubectl get pods -A -l app.kubernetes.io/component=kuberay-operator"
        )


def _of_cluster(found: Objects) -> Iterator[str]:
    """The RayCluster's conditions: pods that it may not create."""
    for condition in conditions(found.cluster):
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            yield _not_admitted(_short(condition.get("message")))


def _of_containers(found: Objects) -> Iterator[str]:
    """Containers that wait for a person."""
    for pod in found.pods:
        status = pod.get("status") or {}
        for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in _WAITING:
                said = _short(waiting.get("message")) or f"the container {container.get('name')}"
                yield f"{role(pod)} does not start ({waiting['reason']}): {said}; {_WAITING[waiting['reason']]}"


def _of_events(found: Objects) -> Iterator[str]:
    """What shows in events alone: of the RayJob's own objects, by their names."""
    name = str((found.job.get("metadata") or {}).get("name"))
    uids = {str((each.get("metadata") or {}).get("uid")) for each in (found.job, found.cluster or {}, *found.pods)}
    running = {str(pod["metadata"]["name"]) for pod in found.pods if (pod.get("status") or {}).get("phase") == "Running"}
    for event in sorted(found.warnings, key=_time_of, reverse=True):
        about = event.get("involvedObject") or {}
        ours = about.get("uid") in uids or (about.get("kind") == "Job" and about.get("name") == name)
        if not ours or event.get("reason") not in _EVENTS or about.get("name") in running:
            continue
        said = _short(event.get("message"))
        if event["reason"].startswith(("FailedCreate", "FailedToCreate")) and event["reason"] != "FailedCreatePodSandBox":
            yield _not_admitted(said)
        else:
            yield f"A pod of the run does not start ({event['reason']}): {said}; create what it names, or correct it in delayline-defaults"


def _of_scheduling(found: Objects) -> Iterator[str]:
    """Pods that no node takes: the head first, for without it nothing starts."""
    for pod in sorted(found.pods, key=lambda each: role(each) != "The head"):
        for condition in conditions(pod):
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                yield (
                    f"{role(pod)} finds no node: {_short(condition.get('message'))}; it starts when there is room: free some, ask for less "
                    f"(--workers, worker.cpus, worker.memory), or choose another --pool"
                )


def _not_admitted(said: str) -> str:
    remedy = "correct delayline-defaults, or ask the platform engineer"
    if "exceeded quota" in said:
        remedy = "use fewer or smaller workers, or ask for a larger quota"
    elif "violates PodSecurity" in said:
        remedy = "the namespace's level asks for more than the defaults give: correct delayline-defaults"
    return f"The cluster does not admit a pod of the run: {said}; {remedy}"


def role(pod: Document) -> str:
    """What a pod is to the run, for the beginning of a sentence."""
    metadata = pod.get("metadata") or {}
    kind = (metadata.get("labels") or {}).get("ray.io/node-type")
    return {"head": "The head", "worker": f"The worker {metadata.get('name')}"}.get(str(kind), "The submitter")


def conditions(document: Document | None) -> Iterable[Document]:
    """The conditions of an object's status."""
    return ((document or {}).get("status") or {}).get("conditions") or []


def created(document: Document) -> float:
    """When an object was made, in seconds since 1970, by the server's clock; 0 where it does not say."""
    text = (document.get("metadata") or {}).get("creationTimestamp")
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _time_of(event: Document) -> str:
    return str(
        event.get("lastTimestamp") or event.get("eventTime") or (event.get("metadata") or {}).get("creationTimestamp") or ""
    )


def _short(text: object) -> str:
    line = " ".join(str(text or "").split()).rstrip(".")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
