import json
import re
import shlex
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kube_plans import plans
from support.kuberay_schema import validator

from service.cluster.cluster_defaults import ClusterDefaults, Pool
from service.cluster.manifests import entrypoint, ray_job
from service.cluster.ray_job_plan import RayJobPlan, workers_of_a_pod
from service.errors import InvalidInput
from service.specs.parts import Resources

MIB = 1024**2
DEFAULTS = ClusterDefaults(image="registry.example.com/delayline:0.1.0-cpu", store="s3://lab/course")
PLAN = RayJobPlan("cnn-1", "team", ("python", "-m", "jobs.train", "--run", "cnn-1"), {}, (2, 2), Resources(), DEFAULTS)


def pod_specs(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The specs of a RayJob's pods by what they are."""
    spec = job["spec"]
    found = {"submitter": spec["submitterPodTemplate"]["spec"]}
    if "rayClusterSpec" in spec:
        found["head"] = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
        found["worker"] = spec["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    return found


def expanded(text: str) -> str:
    """What Kubernetes makes of `$$` and `$(NAME)` where no NAME is known."""
    return re.sub(r"\$(\$|\([^)]*\))?", lambda match: "$" if match[1] == "$" else match[0], text)


def sentence(plan: RayJobPlan) -> str:
    with pytest.raises(InvalidInput) as raised:
        ray_job(plan)
    return str(raised.value)


@given(plans())
def test_kuberay_has_every_field(plan: RayJobPlan) -> None:
    validator().validate(ray_job(plan))


def test_a_field_that_kuberay_lacks_would_be_found() -> None:
    job = ray_job(PLAN)
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    assert not validator().is_valid(job)
    assert not validator().is_valid(ray_job(PLAN) | {"spec": {"backoffLimit": "0"}})


@settings(max_examples=30)
@given(plans())
def test_every_pod_is_hardened(plan: RayJobPlan) -> None:
    for spec in pod_specs(ray_job(plan)).values():
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}
            assert security["allowPrivilegeEscalation"] is False
            assert "memory" in container["resources"]["requests"] and "cpu" in container["resources"]["requests"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in spec["volumes"]}


@settings(max_examples=30)
@given(plans())
def test_the_manifest_is_plain_json_and_always_the_same(plan: RayJobPlan) -> None:
    assert json.loads(json.dumps(ray_job(plan), allow_nan=False)) == ray_job(plan)


@given(st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])), min_size=1))
def test_the_command_passes_both_shells_and_kubernetes(words: list[str]) -> None:
    in_the_container = expanded(entrypoint(tuple(words)))
    assert shlex.split(in_the_container) == ["exec", *words]


def test_a_run_has_a_cluster_of_its_own_that_nothing_repeats() -> None:
    job = ray_job(PLAN)
    assert job["metadata"]["name"] == "cnn-1" and job["metadata"]["namespace"] == "team"
    spec = job["spec"]
    assert spec["backoffLimit"] == 0 and spec["submitterConfig"]["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] and spec["jobId"] == "delayline-cnn-1"
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"} and "enableInTreeAutoscaling" not in cluster
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    group = cluster["workerGroupSpecs"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 2)


def test_a_shared_cluster_is_selected_and_gets_the_variables_with_the_job() -> None:
    spec = ray_job(replace(PLAN, ray_cluster="shared", variables={"DELAYLINE_WAIT_LIMIT": "60.0"}))["spec"]
    assert spec["clusterSelector"] == {"ray.io/cluster": "shared"}
    assert not {"rayClusterSpec", "backoffLimit", "jobId", "shutdownAfterJobFinishes"} & set(spec)
    assert spec["runtimeEnvYAML"] == "env_vars:\n  DELAYLINE_WAIT_LIMIT: '60.0'\n"


def test_an_elastic_run_begins_with_its_fewest_workers_and_its_driver_asks_for_the_others() -> None:
    def asks(document: dict[str, Any]) -> list[str]:
        cluster = document["spec"]["rayClusterSpec"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        variables = [group["template"]["spec"]["containers"][0]["env"] for group in groups]
        return [each["value"] for found in variables for each in found if each["name"] == "DELAYLINE_ASK_FOR_MORE"]

    elastic = ray_job(replace(PLAN, workers=(1, 3)))
    group = elastic["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert [group[name] for name in ("replicas", "minReplicas", "maxReplicas")] == [1, 1, 3]
    assert (asks(elastic), asks(ray_job(replace(PLAN, workers=(2, 2))))) == (["1"], [])
    assert "ASK_FOR_MORE" not in str(ray_job(replace(PLAN, workers=(1, 3), ray_cluster="shared")))


def test_an_elastic_run_has_an_autoscaler_whose_token_no_other_container_sees() -> None:
    cluster = ray_job(replace(PLAN, workers=(1, 4)))["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    group = cluster["workerGroupSpecs"][0]
    # The driver is submitted once the first of them run: more would keep it waiting for room that need not come.
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 4)
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert head["automountServiceAccountToken"] is False
    assert "autoscaler-token" in {volume["name"] for volume in head["volumes"]}
    assert "autoscaler-token" not in {mount["name"] for mount in head["containers"][0]["volumeMounts"]}
    options = cluster["autoscalerOptions"]
    assert options["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["name"] for mount in options["volumeMounts"]} == {"autoscaler-tmp", "autoscaler-token"}


@pytest.mark.parametrize(
    ("worker", "pods", "cpu", "memory", "gpus"),
    [
        (Resources(), 4, "1", 1024, None),
        (Resources(cpus=2.5, memory=4096 * MIB), 4, "2500m", 4096, None),
        (Resources(cpus=0.5), 2, "1", 2048, None),
        (Resources(cpus=0.3), 2, "900m", 3072, None),
        (Resources(cpus=3, gpus=1), 4, "3", 1024, "1"),
        (Resources(cpus=1, gpus=0.25), 1, "4", 4096, "1"),
        (Resources(cpus=1, gpus=0.6), 4, "1", 1024, "1"),
    ],
)
def test_workers_that_take_parts_share_a_pod(worker: Resources, pods: int, cpu: str, memory: int, gpus: str | None) -> None:
    group = ray_job(replace(PLAN, workers=(4, 4), worker=worker))["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert group["replicas"] == pods
    resources = group["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": cpu, "memory": f"{memory}Mi"}
    assert resources["limits"].get("nvidia.com/gpu") == gpus
    assert group["rayStartParams"]["num-gpus"] == (gpus or "0")


@given(st.floats(0.01, 64), st.just(0.0) | st.floats(0.01, 1), st.integers(1, 100))
def test_ray_finds_room_for_as_many_workers_as_the_pods_are_made_for(cpus: float, gpus: float, most: int) -> None:
    worker = Resources(cpus=cpus, gpus=gpus)
    share = workers_of_a_pod(worker, most)
    group = ray_job(replace(PLAN, workers=(most, most), worker=worker))["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    parameters = group["rayStartParams"]
    assert share * cpus <= int(parameters["num-cpus"]) + 1e-3 and share * gpus <= int(parameters["num-gpus"]) + 1e-3
    assert group["replicas"] * share >= most


def test_a_pool_of_spot_nodes_with_gpus() -> None:
    pool = Pool(node_selector={"kind": "gpu"}, gpu_resource="amd.com/gpu", spot=True, image="gpu:1", max_workers=2)
    plan = replace(PLAN, worker=Resources(gpus=1), pool=pool)
    template = ray_job(plan)["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]
    assert template["metadata"]["labels"]["delayline.io/spot"] == "true"
    assert template["spec"]["nodeSelector"] == {"kind": "gpu"}
    assert {each["key"] for each in template["spec"]["tolerations"]} >= {"cloud.google.com/gke-spot"}
    container = template["spec"]["containers"][0]
    assert container["image"] == "gpu:1" and container["resources"]["limits"]["amd.com/gpu"] == "1"
    head = pod_specs(ray_job(plan))["head"]
    assert head["containers"][0]["image"] == DEFAULTS.image and "nodeSelector" not in head


def test_kueues_queue_is_a_label_where_kueue_admits_the_run() -> None:
    label = "kueue.x-k8s.io/queue-name"
    plan = replace(PLAN, defaults=DEFAULTS.model_copy(update={"queue": "team"}))
    assert ray_job(plan)["metadata"]["labels"][label] == "team"
    assert ray_job(replace(plan, pool=Pool(queue="gpus")))["metadata"]["labels"][label] == "gpus"
    assert label not in ray_job(replace(plan, ray_cluster="shared"))["metadata"]["labels"]
    assert "fixed size alone, not 1-2 workers: use --workers 2" in sentence(replace(plan, workers=(1, 2)))


def test_an_owner_is_an_annotation_and_a_label_where_it_can_be_one() -> None:
    assert ray_job(replace(PLAN, owner="ada"))["metadata"]["labels"]["delayline.io/owner"] == "ada"
    metadata = ray_job(replace(PLAN, owner="ada@example.com"))["metadata"]
    assert "delayline.io/owner" not in metadata["labels"] and metadata["annotations"]["delayline.io/owner"] == "ada@example.com"


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN", "PASSWORD"]
)
def test_a_credential_never_stands_in_a_manifest(name: str) -> None:
    message = sentence(replace(PLAN, variables={name: "hunter2"}))
    assert "put credentials into a Secret" in message and "hunter2" not in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "2cnn"}, "The run id '2cnn' cannot name a RayJob"),
        ({"name": "a" * 48}, "1 to 47 lower-case letters"),
        ({"workers": (3, 2)}, "3 to 2 workers are no range"),
        ({"worker": Resources(memory=500 * MIB)}, "use -s worker.memory=800MiB or more"),
        ({"pool": Pool(max_workers=1)}, "2 workers are more than the 1 that this pool allows"),
        ({"pool": Pool(), "ray_cluster": "shared"}, "leave --pool out, or use kube://team"),
        ({"defaults": ClusterDefaults()}, "set `image` in the ConfigMap delayline-defaults of the namespace team"),
        ({"ray_cluster": "shared", "variables": {"DELAYLINE_STORE": "s3://lab/$x"}}, "The value of DELAYLINE_STORE holds $ or `"),
        ({"variables": {"DELAYLINE_STORE": "a\n"}}, "The value of DELAYLINE_STORE holds control characters"),
    ],
)
def test_refuses_what_could_never_run(changes: dict[str, Any], words: str) -> None:
    assert words in sentence(replace(PLAN, **changes))
