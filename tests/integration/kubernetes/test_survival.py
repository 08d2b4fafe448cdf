"""RayJobs from which pods are taken, each with the weights of the one that was left alone; more in test_outages.py."""

from typing import Any

import pytest
from support import kube_runs
from support.kube import Namespace
from support.kube_runs import CALM, END_SECONDS, SELDOM, START_SECONDS, wait_for_step
from support.kube_stores import KubeStore
from support.workspace import Workspace, assert_same_end

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def calm(shared: Namespace, store: KubeStore, image: str, outside: Workspace) -> Workspace:
    """The run `calm`, from which nobody took anything."""
    job = kube_runs.apply(shared, kube_runs.plan(shared, "calm", store, image, *CALM))
    status = job.wait_for_end(START_SECONDS + END_SECONDS)
    assert (status["jobStatus"], status["jobDeploymentStatus"]) == ("SUCCEEDED", "Complete"), shared.told()
    kube_runs.remove(job)
    return outside


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


def test_a_head_pod_that_goes_without_a_word_costs_no_result(run: Any, shared: Namespace, calm: Workspace) -> None:
    """KubeRay makes the head anew in the same Ray cluster, the submitter submits to it, and the driver there goes on."""
    job = run("head-away")
    wait_for_step(calm, job, 200)
    cluster = job.ray_cluster
    shared.delete_pods(job.pods("head"))
    status = job.wait_for_end(END_SECONDS)
    assert status["jobStatus"] == "SUCCEEDED", shared.told()
    assert status["rayClusterName"] == cluster
    assert len(calm.show("head-away")["attempts"]) == 2
    assert_same_end(calm, "head-away", calm)


def test_pods_that_are_all_told_to_end_save_first_and_the_run_goes_on(run: Any, shared: Namespace, calm: Workspace) -> None:
    """SIGTERM to the head and to all workers: what was trained until then is in the store within the grace."""
    job = run("all-told", *SELDOM)
    wait_for_step(calm, job, 200, saved=False)
    shared.delete_pods(f"ray.io/cluster={job.ray_cluster}", grace=30)
    status = job.wait_for_end(END_SECONDS)
    assert status["jobStatus"] == "SUCCEEDED", shared.told()
    shown = calm.show("all-told")
    first = shown["attempts"][0]
    assert next(event["step"] for event in shown["events"] if event["event"] == "resumed") == first["saved"] >= 200
    assert max(row["step"] for row in shown["history"] if row["time"] <= first["finished"]) <= first["saved"]
    assert_same_end(calm, "all-told", calm)
