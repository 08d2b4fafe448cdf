"""Manifests before the API server, the level `restricted`, KubeRay's own checks and the Role of submitters; no pod is started."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st
from support.kube import Document, Namespace
from support.kube_images import ROOT
from support.kube_plans import plans

from service.cluster.cluster_defaults import ClusterDefaults, Pool
from service.cluster.kube_yaml import dump
from service.cluster.manifests import RayJobPlan, ray_job
from service.specs.parts import Resources

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

FOLDER = ROOT / "k8s" / "kuberay"
# One call for many plans: a call takes seconds, a plan in it milliseconds. What fails is not made smaller, for that would take hundreds of calls.
FEW = hypothesis.settings(
    max_examples=2,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
MANY_PLANS = st.lists(plans(), min_size=12, max_size=12, unique_by=lambda plan: plan.name)
VERBS = ("create", "get", "list", "watch", "update", "patch", "delete", "deletecollection")
SUBRESOURCES = ("pods/log", "pods/exec", "pods/attach", "pods/portforward", "rayjobs.ray.io/status", "serviceaccounts/token")


def server_takes(namespace: Namespace, documents: list[Document]) -> None:
    """Whether the API server would create them, with every field known and nothing to warn of."""
    listed = dump({"apiVersion": "v1", "kind": "List", "items": documents})
    done = namespace.run("create", "--dry-run=server", "--validate=strict", "-f", "-", given=listed)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr


def pods_of(plan: RayJobPlan) -> Iterator[Document]:
    """The pods of a run as KubeRay would make them: with the autoscaler's container, and without what must exist in the cluster."""
    spec = ray_job(plan)["spec"]
    templates = [spec["submitterPodTemplate"]]
    if cluster := spec.get("rayClusterSpec"):
        head = cluster["headGroupSpec"]["template"]
        if options := cluster.get("autoscalerOptions"):
            kept = {key: options[key] for key in ("env", "resources", "securityContext", "volumeMounts")}
            head["spec"]["containers"].append({"name": "autoscaler", "image": "autoscaler", **kept})
        templates += [head, *(group["template"] for group in cluster["workerGroupSpecs"])]
    for number, template in enumerate(templates):
        for name in ("serviceAccountName", "priorityClassName", "runtimeClassName"):
            template["spec"].pop(name, None)
        metadata = {**template["metadata"], "name": f"{plan.name}-{number}"}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@FEW
@hypothesis.given(drawn=MANY_PLANS)
def test_the_api_server_takes_the_rayjob_of_any_plan(shared: Namespace, drawn: list[RayJobPlan]) -> None:
    server_takes(shared, [ray_job(replace(plan, namespace=shared.name)) for plan in drawn])


@FEW
@hypothesis.given(drawn=MANY_PLANS)
def test_the_level_restricted_admits_every_pod(shared: Namespace, drawn: list[RayJobPlan]) -> None:
    server_takes(shared, [pod for plan in drawn for pod in pods_of(plan)])


def test_a_pod_that_is_not_hardened_would_be_refused(shared: Namespace) -> None:
    pod = next(pods_of(hypothesis_free_plan(shared)))
    del pod["spec"]["containers"][0]["securityContext"]
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        server_takes(shared, [pod])


def hypothesis_free_plan(namespace: Namespace, **changes: Any) -> RayJobPlan:
    defaults = ClusterDefaults(image="kube.local/none:0")
    return replace(RayJobPlan("fixed", namespace.name, ("true",), {}, (2, 2), Resources(), defaults), **changes)


def test_kuberay_finds_nothing_wrong(shared: Namespace) -> None:
    """A suspended RayJob is checked by the operator like any other, and starts nothing."""
    spot = Pool(spot=True, node_selector={"kubernetes.io/os": "linux"})
    variants: dict[str, dict[str, Any]] = {
        "fixed": {},
        "elastic": {"workers": (1, 3)},
        "spot": {"pool": spot, "worker": Resources(gpus=0.5)},
    }
    for name, changes in variants.items():
        job = ray_job(hypothesis_free_plan(shared, name=name, **changes))
        job["spec"]["suspend"] = True
        shared.apply([job])

    def states() -> dict[str, str]:
        return {job["metadata"]["name"]: job.get("status", {}).get("jobDeploymentStatus", "") for job in shared.get("rayjobs")}

    shared.wait_for("all to be looked at", lambda: all(states().values()), 60)
    shared.wait_for("all to be suspended", lambda: set(states().values()) == {"Suspended"}, 60)
    assert set(states()) == set(variants)


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_the_api_server_takes_a_manifest_for_people(shared: Namespace, name: str) -> None:
    server_takes(shared, list(yaml.safe_load_all((FOLDER / name).read_text())))


def granted() -> set[tuple[str, str]]:
    """Verb and resource of all that rbac.yaml gives submitters."""
    documents = list(yaml.safe_load_all((FOLDER / "rbac.yaml").read_text()))
    (role,) = (each for each in documents if each["kind"] == "Role" and each["metadata"]["name"] == "delayline-submitter")
    return {
        (verb, f"{resource}.{group}".rstrip("."))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if not rule.get("resourceNames")
    }


def allowed(namespace: Namespace, account: str) -> set[tuple[str, str]]:
    """Every verb and resource, of all that the cluster has, that an account may use in the namespace."""
    resources = [*namespace.kubectl("api-resources", "-o", "name").split(), *SUBRESOURCES]
    asked = [(verb, resource) for resource in resources for verb in VERBS]
    reviews = [_review(namespace, account, verb, resource) for verb, resource in asked]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    shown = '-o=jsonpath={.status.allowed}{"\\n"}'
    answers = namespace.kubectl("create", shown, "-f", "-", given=listed, seconds=300).split()
    assert len(answers) == len(asked)
    return {question for question, answer in zip(asked, answers, strict=True) if answer == "true"}


def _review(namespace: Namespace, account: str, verb: str, resource: str, name: str = "") -> Document:
    whole, _, subresource = resource.partition("/")
    plural, _, group = whole.partition(".")
    attributes = {
        "namespace": namespace.name,
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": subresource,
        "name": name,
    }
    user = f"system:serviceaccount:{namespace.name}:{account}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace.name}", "system:authenticated"]
    spec = {"user": user, "groups": groups, "resourceAttributes": attributes}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": spec}


def test_a_submitter_may_do_what_its_role_says_and_nothing_else(shared: Namespace) -> None:
    shared.apply(list(yaml.safe_load_all((FOLDER / "rbac.yaml").read_text())))
    # What the cluster lets everybody do, such as asking what they may.
    everybody = allowed(shared, "nobody-in-particular")
    assert allowed(shared, "delayline-submitter") - everybody == granted() - everybody
    assert allowed(shared, "delayline-driver") == everybody
    assert not {resource for _, resource in everybody} & {"secrets", "pods", "configmaps", "rayjobs.ray.io"}
    for name, may in (("delayline-defaults", "yes"), ("kube-root-ca.crt", "no")):
        user = f"--as=system:serviceaccount:{shared.name}:delayline-submitter"
        assert shared.run("auth", "can-i", "get", f"configmaps/{name}", user).stdout.strip() == may


def test_a_submitter_submits_and_cancels_and_reads_no_secret(shared: Namespace) -> None:
    shared.apply(list(yaml.safe_load_all((FOLDER / "rbac.yaml").read_text())))
    user = f"--as=system:serviceaccount:{shared.name}:delayline-submitter"
    job = ray_job(hypothesis_free_plan(shared, name="submitted"))
    job["spec"]["suspend"] = True
    shared.kubectl("create", user, "-f", "-", given=json.dumps(job))
    shared.kubectl("get", "pods,events,rayclusters", user)
    shared.kubectl("delete", "rayjob", "submitted", user, "--wait=false")
    for words in (
        ["get", "secrets"],
        ["get", "configmap", "kube-root-ca.crt"],
        ["delete", "pod", "x"],
        ["create", "token", "default"],
    ):
        refused = shared.run(words[0], user, *words[1:])
        assert refused.returncode != 0 and "orbidden" in refused.stderr, refused.stderr
