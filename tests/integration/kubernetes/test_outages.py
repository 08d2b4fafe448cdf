"""What is taken from a run beside a pod: the operator, the store, the API server, the node, its own RayJob; ten pods at random."""

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from support import kube_stores
from support.kube import Kube, Namespace
from support.kube_runs import CALM, END_SECONDS, SELDOM, START_SECONDS, RayJob, wait_for_step
from support.kube_stores import KubeStore
from support.workspace import Workspace, assert_same_end, command_of

pytestmark = [pytest.mark.kubernetes_long, pytest.mark.timeout(3600)]

AWAY_SECONDS = 30
DELETIONS = 10
SEED = 17
LONG = (*CALM, "-s", "epochs=400")
"""Long enough for ten pods to be taken from it, each after a checkpoint."""
OPERATOR = "app.kubernetes.io/component=kuberay-operator"

Run = Callable[..., RayJob]


@pytest.fixture(scope="module")
def store(shared: Namespace, image: str, seaweedfs_image: str) -> Iterator[KubeStore]:
    """SeaweedFS whose data outlive its pod."""
    with kube_stores.running(shared, "seaweedfs", seaweedfs_image, image, persistent=True) as made:
        yield made


def ends_as(calm: Workspace, outside: Workspace, job: RayJob) -> list[dict[str, Any]]:
    """Wait until a run has succeeded with the weights of `calm`; its attempts."""
    status = job.wait_for_end(END_SECONDS)
    assert status["jobStatus"] == "SUCCEEDED", job.namespace.told()
    assert_same_end(outside, job.name, calm)
    return list(outside.show(job.name)["attempts"])


def operator_of(cluster: Kube) -> Namespace:
    """The namespace that the operator runs in."""
    found = cluster.get("pods", "-A", "-l", OPERATOR)
    assert found, f"no pod has the label {OPERATOR}"
    return Namespace(cluster, found[0]["metadata"]["namespace"])


def test_an_operator_and_a_store_that_go_delay_the_run(
    owned: Kube, run: Run, shared: Namespace, outside: Workspace, calm_here: Workspace
) -> None:
    job = run("store-away")
    wait_for_step(outside, job, 200)
    operator_of(owned).delete_pods(OPERATOR)
    shared.kubectl("scale", "statefulset", "store", "--replicas=0")
    shared.wait_for("the store's end", lambda: not shared.get("pods", "-l", "app.kubernetes.io/name=store"), 60)
    time.sleep(AWAY_SECONDS)
    shared.kubectl("scale", "statefulset", "store", "--replicas=1")
    assert len(ends_as(calm_here, outside, job)) == 1


@contextlib.contextmanager
def api_server_away(cluster: Kube) -> Iterator[None]:
    """Within it the API server answers nobody."""
    if not cluster.is_here:
        pytest.skip("the API server's process is on another machine")
    servers = [each for each in psutil.process_iter() if command_of(each).partition(" ")[0].endswith("kube-apiserver")]
    assert servers, "no process of this machine is the API server"
    try:
        for server in servers:
            server.send_signal(signal.SIGSTOP)
        yield
    finally:
        for server in servers:
            server.send_signal(signal.SIGCONT)


def test_an_api_server_that_is_away_costs_the_run_nothing_and_the_client_says_so(
    owned: Kube, user: Workspace, shared: Namespace, outside: Workspace, calm_here: Workspace
) -> None:
    command = ("train", *CALM, "--name", "server-away", "--cluster", f"kube://{shared.name}")
    assert user.delayline(*command, "--detach").code == 0
    job = RayJob(shared, "server-away")
    wait_for_step(outside, job, 100)
    client = user.start(*command)
    with api_server_away(owned):
        asked = user.delayline("runs", "list", "--cluster", f"kube://{shared.name}")
        assert asked.code == 4 and "has not answered for" in asked.err and "Traceback" not in asked.err
        time.sleep(AWAY_SECONDS / 2)
    done = user.end_of(client)
    assert done.code in (0, 4) and "Traceback" not in done.err, done.err
    shared.wait_for("the API server", lambda: shared.run("get", "rayjobs").returncode == 0, 120)
    assert len(ends_as(calm_here, outside, job)) == 1


def test_a_rayjob_that_is_deleted_leaves_the_store_alone_and_the_next_goes_on(
    run: Run, shared: Namespace, outside: Workspace, calm_here: Workspace
) -> None:
    before = objects_of(shared)
    job = run("deleted")
    wait_for_step(outside, job, 200)
    shared.kubectl("delete", "rayjob", "deleted", "--wait=true")
    shared.wait_for("the end of all that it made", lambda: not objects_of(shared) - before, 180)
    left = outside.show("deleted")
    assert left["state"] not in ("succeeded", "failed", "cancelled"), left["state"]
    attempts = ends_as(calm_here, outside, run("deleted"))
    assert len(attempts) == 2
    assert attempts[0]["saved"] >= 200


def objects_of(namespace: Namespace) -> set[str]:
    """All that is in a namespace, but events."""
    kinds = namespace.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    listed = ",".join(kind for kind in kinds if not kind.startswith("events") and not kind.endswith("metrics.k8s.io"))
    return set(namespace.kubectl("get", listed, "-o", "name", "--ignore-not-found").split())


def test_a_drained_node_gives_the_run_back(
    owned: Kube, run: Run, shared: Namespace, outside: Workspace, calm_here: Workspace
) -> None:
    """All but the store are evicted first, as from one of several nodes; then the store, whose data are on a PersistentVolume."""
    job = run("drained", *SELDOM)
    wait_for_step(outside, job, 200, saved=False)
    (node,) = (each["metadata"]["name"] for each in owned.get("nodes"))
    drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s")
    try:
        owned.kubectl(*drain, "--pod-selector=app.kubernetes.io/name!=store", seconds=180)
        (checkpoint,) = outside.show("drained")["checkpoints"]
        owned.kubectl(*drain, seconds=180)
    finally:
        owned.kubectl("uncordon", node)
    attempts = ends_as(calm_here, outside, job)
    assert attempts[0]["saved"] == checkpoint["step"] >= 200


def test_ten_random_deletions_change_nothing(
    run: Run, shared: Namespace, outside: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A pod of any kind, with any grace, at any time after the attempt has saved a checkpoint."""
    folder = tmp_path_factory.mktemp("long")
    calm = Workspace(folder, str(folder / "store"))
    assert calm.delayline("train", *LONG, "--name", "calm").code == 0
    drawn = random.Random(SEED)
    job = run("hunted", *LONG)
    step, deleted = 0, []
    while len(deleted) < DELETIONS:
        wait_for_step(outside, job, step + 100)
        time.sleep(drawn.uniform(0, 5))
        kind, grace = drawn.choice(["head", "worker", "worker"]), drawn.choice([0, 0, 1, 30])
        deleted += [(kind, grace, name) for name in shared.delete_pods(job.pods(kind), grace=grace, count=1)]
        step = outside.show("hunted")["checkpoints"][-1]["step"]
    status = job.wait_for_end(START_SECONDS + END_SECONDS)
    assert status["jobStatus"] == "SUCCEEDED", f"{deleted}\n{shared.told()}"
    assert_same_end(outside, "hunted", calm)
    assert len(outside.show("hunted")["attempts"]) > DELETIONS / 2
