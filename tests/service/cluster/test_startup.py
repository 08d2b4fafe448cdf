"""The documents are cut from those that a real cluster wrote (Kubernetes 1.34, KubeRay 1.6.2)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cluster.startup import Objects, why

JOB: dict[str, Any] = {
    "metadata": {"name": "one", "uid": "j", "creationTimestamp": "2026-11-29T16:00:00Z"},
    "spec": {},
    "status": {"jobDeploymentStatus": "Initializing"},
}
CREATED = 1795968000.0


def pod(node: str = "worker", phase: str = "Pending", uid: str = "p", **status: Any) -> dict[str, Any]:
    labels = {} if node == "submitter" else {"ray.io/node-type": node}
    return {"metadata": {"name": f"one-{node}", "uid": uid, "labels": labels}, "status": {"phase": phase, **status}}


def waits(reason: str, message: str) -> dict[str, Any]:
    return {"name": "ray", "state": {"waiting": {"reason": reason, "message": message}}}


def unscheduled(node: str) -> dict[str, Any]:
    message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate"
    return pod(node, conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}])


def warning(reason: str, message: str, kind: str = "Pod", uid: str = "p", name: str = "one-worker") -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"kind": kind, "uid": uid, "name": name}}


CASES = {
    "wrong image": (
        [pod("head", containerStatuses=[waits("ImagePullBackOff", 'Back-off pulling image "kube.local/nothing:1"')])],
        [], None, ["The head does not start (ImagePullBackOff)", "kube.local/nothing:1", "image_pull_secrets"],
    ),
    "wrong image of a worker, whose init container pulls first": (
        [pod(initContainerStatuses=[waits("ErrImagePull", 'failed to pull "x"')])], [], None, ["The worker one-worker", "ErrImagePull"],
    ),
    "missing Secret": (
        [pod("head", containerStatuses=[waits("CreateContainerConfigError", 'secret "no-such-secret" not found')])],
        [], None, ['secret "no-such-secret" not found', "delayline-defaults"],
    ),
    "unschedulable": ([unscheduled("worker")], [], None, ["finds no node", "Insufficient cpu", "--pool"]),
    "quota": (
        [], [], {"status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "pods is forbidden: exceeded quota: small"}]}},
        ["does not admit a pod", "exceeded quota: small", "fewer or smaller workers"],
    ),
    "the submitter violates the namespace's level": (
        [], [warning("FailedCreate", 'pods "one-x" is forbidden: violates PodSecurity "restricted:latest"', "Job", "?", "one")], None,
        ["violates PodSecurity", "level"],
    ),
    "missing claim": (
        [pod("worker")], [warning("FailedMount", 'MountVolume.SetUp failed for volume "ca": secret "ca" not found')], None,
        ["FailedMount", 'secret "ca" not found'],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_mistake_gets_one_sentence_with_what_kubernetes_says_and_the_remedy(case: str) -> None:
    pods, warnings, cluster, words = CASES[case]
    said = why(Objects(JOB, cluster, pods, warnings, CREATED + 30))
    assert said is not None
    assert "\n" not in said and not said.endswith(".")
    assert [word for word in words if word not in said] == []


def test_what_a_person_must_mend_comes_before_what_may_come_by_itself() -> None:
    broken = pod("worker", uid="q", initContainerStatuses=[waits("ErrImagePull", "no")])
    assert "ErrImagePull" in str(why(Objects(JOB, None, [unscheduled("head"), broken], [], CREATED)))


def test_nothing_is_said_of_a_start_that_takes_its_course() -> None:
    creating = pod(
        "worker", containerStatuses=[waits("PodInitializing", "")], initContainerStatuses=[waits("ContainerCreating", "")]
    )
    assert why(Objects(JOB, {"status": {"conditions": []}}, [pod("head", "Running"), creating], [], CREATED + 300)) is None


def test_old_warnings_and_those_of_others_are_not_passed_on() -> None:
    running = pod("worker", "Running")
    foreign = warning("FailedMount", "no", uid="another", name="two-worker")
    assert why(Objects(JOB, None, [running], [warning("FailedMount", "no"), foreign], CREATED)) is None


def test_without_an_operator_that_is_said_after_a_while() -> None:
    unseen = {**JOB, "status": None}
    assert why(Objects(unseen, None, [], [], CREATED + 5)) is None
    said = str(why(Objects(unseen, None, [], [], CREATED + 40)))
    assert "No KubeRay operator has looked at the RayJob for 40 s" in said
    # By Helm and by kustomize it has this label; its name is another.
    assert said.endswith("-l app.kubernetes.io/component=kuberay-operator")


def test_a_run_that_kueue_holds_back_names_its_queue() -> None:
    metadata = {**JOB["metadata"], "labels": {"kueue.x-k8s.io/queue-name": "gpus"}}
    held = {"metadata": metadata, "spec": {"suspend": True}, "status": {"jobDeploymentStatus": "Suspended"}}
    assert "Kueue's queue gpus" in str(why(Objects(held, None, [], [], CREATED)))


documents = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


@given(st.text(max_size=400), st.sampled_from(["ErrImagePull", "CrashLoopBackOff"]))
def test_whatever_kubernetes_says_becomes_one_short_line(message: str, reason: str) -> None:
    said = why(Objects(JOB, None, [pod(containerStatuses=[waits(reason, message)])], [], CREATED))
    assert said is not None and "\n" not in said and len(said) < 600
