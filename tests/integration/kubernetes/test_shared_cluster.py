"""The Ray cluster of k8s/kuberay/raycluster.yaml, shared: by `--cluster kube://NAMESPACE/RAYCLUSTER`, and by the Ray CLI with its token."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support import kube_runs
from support.kube import Namespace
from support.kube_images import ROOT
from support.kube_runs import RAY_SECONDS
from support.kube_stores import KubeStore
from support.port_forwards import forwarded
from support.workspace import BIN, COMMAND_SECONDS, Workspace

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1800)]

SHORT = ("cnn-digits", "--workers", "2", "-s", "worker.cpus=0.6", "-s", "epochs=5")
DASHBOARD_PORT = 8265


@pytest.fixture(scope="module")
def ray_cluster(shared: Namespace, store: KubeStore, image: str) -> str:
    """The cluster's name, once it is ready; its pods ask for less than in the file, for the node has two cores."""
    document = yaml.safe_load((ROOT / "k8s" / "kuberay" / "raycluster.yaml").read_text())
    for group, cpu in [(document["spec"]["headGroupSpec"], "200m"), (document["spec"]["workerGroupSpecs"][0], "500m")]:
        (container,) = group["template"]["spec"]["containers"]
        container["image"] = image
        container["resources"]["requests"]["cpu"] = cpu
    shared.apply([document])
    name = str(document["metadata"]["name"])
    shared.wait_for(
        "the RayCluster", lambda: shared.get("raycluster", name).get("status", {}).get("state") == "ready", RAY_SECONDS
    )
    return name


@pytest.fixture(scope="module")
def dashboard(shared: Namespace, ray_cluster: str) -> Iterator[str]:
    """Its URL on this machine."""
    with forwarded(shared, f"svc/{ray_cluster}-head-svc", DASHBOARD_PORT) as port:
        yield f"http://127.0.0.1:{port}"


def ray_job(home: Path, dashboard: str, token: str | None, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`ray job` with a token, or without one."""
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
    return subprocess.run(
        [BIN / "ray", "job", *arguments], cwd=home, env={**os.environ, "RAY_API_SERVER_ADDRESS": dashboard, "HOME": str(home), **access},
        capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False,
    )  # fmt: skip


def test_a_run_by_the_kubeconfig_alone(user: Workspace, shared: Namespace, ray_cluster: str) -> None:
    pods = {pod["metadata"]["name"] for pod in shared.pods(f"ray.io/cluster={ray_cluster}")}
    done = user.delayline("train", *SHORT, "--name", "shared", "--cluster", f"kube://{shared.name}/{ray_cluster}", "--json")
    assert done.code == 0, done.err + shared.told()
    assert done.document["state"] == "succeeded"
    assert {worker["host"] for worker in done.document["attempts"][0]["workers"]} <= pods
    assert {pod["metadata"]["name"] for pod in shared.pods(f"ray.io/cluster={ray_cluster}")} == pods, "the cluster stays"
    too_many = user.delayline(
        "train",
        *SHORT,
        "--workers",
        "3",
        "-s",
        "batch=66",
        "-s",
        "worker.cpus=1",
        "--cluster",
        f"kube://{shared.name}/{ray_cluster}",
    )
    assert too_many.code == 2 and "3 workers need" in too_many.err, too_many.err


def test_the_ray_cli_submits_with_the_token_and_is_refused_without(
    shared: Namespace, outside: Workspace, ray_cluster: str, dashboard: str, store: KubeStore, tmp_path: Path
) -> None:
    command = ("python", "-m", "jobs.train", *SHORT, "--name", "by-ray", "--store", store.url)
    token = kube_runs.ray_token(shared, ray_cluster)
    for wrong in (None, "0" * len(token)):
        refused = ray_job(tmp_path, dashboard, wrong, "submit", "--submission-id=refused", "--no-wait", "--", *command)
        assert refused.returncode != 0
        assert "401" in refused.stderr or "403" in refused.stderr or "uthentication" in refused.stderr, refused.stderr
    submitted = ray_job(tmp_path, dashboard, token, "submit", "--submission-id=by-ray", "--", *command)
    assert submitted.returncode == 0, submitted.stderr + submitted.stdout
    listed = ray_job(tmp_path, dashboard, token, "list")
    assert "by-ray" in listed.stdout and "refused" not in listed.stdout, listed.stdout
    run = outside.show("by-ray")
    assert (run["state"], len(run["attempts"][0]["workers"])) == ("succeeded", 2)
