"""RayJobs from which pods are taken, each with the weights of the one that was left alone."""

from typing import Any

import pytest
from support import kube_runs
from support.kube import Namespace
from support.kube_runs import CALM, RayJob
from support.kube_stores import KubeStore
from support.workspace import Workspace, assert_same_end

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(2400)]

START_SECONDS = 900
"""From applying a RayJob to a checkpoint (measured: 91 s to the first step; many times that beside other work, and while its pods wait for room)."""
END_SECONDS = 900


@pytest.fixture
def run(shared: Namespace, store: KubeStore, image: str) -> Any:
    """Applies the RayJob of a run under a name."""

    def made(name: str, *command: str) -> RayJob:
        return kube_runs.apply(shared, kube_runs.plan(shared, name, store, image, *(command or CALM)))

    return made


@pytest.fixture(scope="module")
def calm(shared: Namespace, store: KubeStore, image: str, outside: Workspace) -> Workspace:
    """The run `calm`, from which nobody took anything."""
    job = kube_runs.apply(shared, kube_runs.plan(shared, "calm", store, image, *CALM))
    status = job.wait_for_end(START_SECONDS + END_SECONDS)
    assert (status["jobStatus"], status["jobDeploymentStatus"]) == ("SUCCEEDED", "Complete"), shared.told()
    remove(job)
    return outside


def remove(job: RayJob) -> None:
    """Free the node for what comes next."""
    selector = f"ray.io/cluster={job.ray_cluster}"
    job.namespace.kubectl("delete", "rayjob", job.name, "--wait=false")
    job.namespace.wait_for(f"the end of the pods of {job.name}", lambda: not job.namespace.get("pods", "-l", selector), 180)


def wait_for_step(outside: Workspace, job: RayJob, step: int) -> None:
    """Wait for a checkpoint at or past a step, seen from outside; fail with what the namespace can tell."""

    def there() -> bool:
        try:
            run = outside.show(job.name)
        except Exception:
            return False
        assert run["state"] not in ("succeeded", "failed"), f"{run['state']}: {run['error']}"
        return bool(run["checkpoints"]) and run["checkpoints"][-1]["step"] >= step

    job.namespace.wait_for(f"step {step} of {job.name}", there, START_SECONDS)


def test_a_rayjob_of_two_workers_is_read_from_outside(calm: Workspace) -> None:
    run = calm.show("calm")
    assert run["state"] == "succeeded"
    assert run["metrics"]["test_accuracy"] > 0.95
    (attempt,) = run["attempts"]
    assert len({worker["host"] for worker in attempt["workers"]}) == 2, "a pod each"
    done = calm.delayline("runs", "report", "calm", "--to", "calm.html")
    assert done.code == 0, done.err
    assert (calm.folder / "calm.html").read_text().rstrip().endswith("</html>")


def test_a_worker_pod_that_goes_without_a_word_costs_no_result(run: Any, shared: Namespace, calm: Workspace) -> None:
    job = run("worker-away")
    wait_for_step(calm, job, 200)
    shared.delete_pods(job.pods("worker"), count=1)
    status = job.wait_for_end(END_SECONDS)
    assert status["jobStatus"] == "SUCCEEDED", shared.told()
    assert_same_end(calm, "worker-away", calm)
    remove(job)
