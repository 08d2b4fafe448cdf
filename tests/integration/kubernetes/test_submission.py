"""`delayline … --cluster kube://NAMESPACE` against a real API server and the real KubeRay operator."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kube import Document, Namespace
from support.kube_runs import NOWHERE, config_map, guest_config
from support.kube_stores import KubeStore
from support.workspace import Workspace

pytestmark = [pytest.mark.timeout(1800)]

FAST = ("cnn-digits", "--workers", "2", "-s", "worker.cpus=0.6", "-s", "epochs=20")
TOLD_SECONDS = 30
"""Within which a user is told what keeps a run from starting, from its appearance on."""
FREED_SECONDS = 60
"""Within which a cancelled run has left its nodes."""


@pytest.fixture
def submit(user: Workspace, shared: Namespace) -> Callable[..., Any]:
    """`delayline train … --cluster kube://` of the file's namespace, to its end."""

    def train(*arguments: str, spec: tuple[str, ...] = FAST) -> Any:
        return user.delayline("train", *spec, "--cluster", f"kube://{shared.name}", *arguments)

    return train


def pods_of(namespace: Namespace, run: str) -> list[Document]:
    return list(namespace.get("pods", "-l", f"delayline.io/run={run}"))


@pytest.mark.kubernetes
def test_a_printed_rayjob_is_applied_claims_the_run_and_a_repeated_command_starts_no_other(
    submit: Callable[..., Any], user: Workspace, shared: Namespace
) -> None:
    printed = submit("--name", "applied", "--dry-run")
    assert printed.code == 0, printed.err
    assert "id: applied" in printed.err and yaml.safe_load(printed.out)["kind"] == "RayJob"
    shared.kubectl("apply", "-f", "-", given=printed.out)
    uid = shared.get("rayjob", "applied")["metadata"]["uid"]
    done = submit("--name", "applied")
    assert done.code == 0, done.err + shared.told()
    assert "succeeded" in done.out
    assert shared.get("rayjob", "applied")["metadata"]["uid"] == uid
    shown = user.delayline("runs", "show", "applied", "--json", "--cluster", f"kube://{shared.name}")
    run = shown.document
    assert (run["state"], len(run["attempts"])) == ("succeeded", 1)
    assert {worker["host"] for worker in run["attempts"][0]["workers"]} and run["metrics"]["test_accuracy"] > 0.9
    again = submit("--name", "applied")
    assert (again.code, again.out) == (0, done.out)
    other = submit("--name", "applied", "-s", "seed=9")
    assert other.code == 2 and "another spec" in other.err


@pytest.mark.kubernetes
def test_a_run_that_is_cancelled_leaves_its_nodes_within_a_minute(
    submit: Callable[..., Any], user: Workspace, shared: Namespace
) -> None:
    long = ("cnn-digits", "--workers", "2", "-s", "worker.cpus=0.6", "-s", "epochs=4000", "-s", "checkpoint.every_steps=100")
    detached = submit("--name", "cancelled", "--detach", spec=long)
    assert detached.code == 0, detached.err
    user.wait_for("cancelled", lambda run: run["step"] > 20, seconds=900)
    cancelled = user.delayline("runs", "cancel", "cancelled", "--cluster", f"kube://{shared.name}")
    assert "is cancelled" in cancelled.out, cancelled.err
    began = time.monotonic()
    shared.wait_for("the end of all its pods but the submitter's", lambda: not _nodes(shared, "cancelled"), 4 * FREED_SECONDS)
    assert time.monotonic() - began <= FREED_SECONDS
    status = shared.get("rayjob", "cancelled")["status"]
    assert "exit code 130" in status["message"]


def _nodes(namespace: Namespace, run: str) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods_of(namespace, run) if "ray.io/node-type" in pod["metadata"]["labels"]]


def waiting_of(user: Workspace, namespace: Namespace, run: str, words: list[str]) -> str:
    """What `runs show` says that the run waits for, once it has all the words; fail after TOLD_SECONDS and what a look takes."""

    def told() -> str | None:
        shown = user.delayline("runs", "show", run, "--json", "--cluster", f"kube://{namespace.name}")
        said = str((shown.document.get("waiting") or {}).get("message"))
        return said if all(word in said for word in words) else None

    return namespace.wait_for(f"{words} of {run}", told, TOLD_SECONDS + 15)


@pytest.mark.kubernetes
def test_a_wrong_image_is_told_and_the_cancelled_run_leaves_no_rayjob(
    submit: Callable[..., Any], user: Workspace, shared: Namespace
) -> None:
    assert submit("--name", "no-image", "--pool", "broken", "--detach").code == 0
    shared.wait_for(
        "the pull's failure",
        lambda: "ErrImage" in shared.kubectl("get", "pods") or "ImagePull" in shared.kubectl("get", "pods"),
        240,
    )
    waiting_of(user, shared, "no-image", ["does not start", NOWHERE, "correct the image"])
    assert "is cancelled" in user.delayline("runs", "cancel", "no-image", "--cluster", f"kube://{shared.name}").out
    shared.wait_for("the RayJob's end", lambda: shared.run("get", "rayjob", "no-image").returncode != 0, 60)


@pytest.mark.kubernetes
def test_quotas_are_told_of_pods_and_of_rayjobs(submit: Callable[..., Any], user: Workspace, shared: Namespace) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
    shared.apply([{**quota, "spec": {"hard": {"pods": "1"}}}])
    try:
        assert submit("--name", "no-room", "--detach").code == 0
        waiting_of(user, shared, "no-room", ["does not admit a pod", "exceeded quota", "larger quota"])
        user.delayline("runs", "cancel", "no-room", "--cluster", f"kube://{shared.name}")
        shared.apply([{**quota, "spec": {"hard": {"count/rayjobs.ray.io": "0"}}}])
        shared.wait_for(
            "the quota's own status",
            lambda: "count/rayjobs.ray.io" in (shared.get("resourcequota", "few")["status"].get("hard") or {}),
            60,
        )
        refused = submit("--name", "not-admitted", "--detach")
        assert refused.code == 2 and "does not admit" in refused.err and "exceeded quota" in refused.err
    finally:
        shared.kubectl("delete", "resourcequota", "few")


@pytest.mark.kubernetes
def test_two_who_submit_one_id_at_once_share_one_rayjob(user: Workspace, shared: Namespace) -> None:
    command = ("train", *FAST, "--name", "twice", "--pool", "broken", "--detach", "--cluster", f"kube://{shared.name}")
    ended = [user.end_of(process) for process in [user.start(*command), user.start(*command)]]
    assert [done.code for done in ended] == [0, 0], ended
    assert [each["metadata"]["name"] for each in shared.get("rayjobs")].count("twice") == 1
    user.delayline("runs", "cancel", "twice", "--cluster", f"kube://{shared.name}")


@pytest.mark.parametrize(
    ("where", "more", "words"),
    [
        ("kube://no-such-namespace", [], "There is no namespace 'no-such-namespace'"),
        ("kube://{namespace}?context=nobody", [], "no context 'nobody'"),
        ("kube://{namespace}/no-cluster", [], "There is no RayCluster 'no-cluster'"),
        ("kube://{namespace}", ["--pool", "fast"], "no pool 'fast'"),
        ("kube://{namespace}", ["--store", "./here"], "which pods do not see"),
        ("kube://{namespace}", ["--store", "s3://ada:word@lab/course"], "holds credentials"),
        ("kube://{namespace}", ["-s", "worker.memory=100MiB"], "at least"),
        ("kube://{namespace}", ["--name", "1-digit"], "begins with a letter"),
    ],
)
@pytest.mark.kubernetes
def test_mistakes_are_one_sentence_before_anything_is_created(
    user: Workspace, shared: Namespace, where: str, more: list[str], words: str
) -> None:
    before = len(shared.get("rayjobs"))
    done = user.delayline("train", *FAST, "--cluster", where.format(namespace=shared.name), *more)
    assert done.code == 2 and done.out == ""
    (line,) = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert words in line and "Traceback" not in done.err and "ada:word" not in done.err
    assert len(shared.get("rayjobs")) == before


@pytest.mark.kubernetes
def test_an_endpoint_that_pods_do_not_reach_and_a_kubeconfig_that_is_not_there(
    user: Workspace, shared: Namespace, store: KubeStore, image: str
) -> None:
    shared.apply([config_map(store, image, s3_endpoint=None)])
    command = ("train", *FAST, "--name", "nowhere", "--cluster", f"kube://{shared.name}")
    loopback = user.delayline(*command)
    user.environment["KUBECONFIG"] = str(user.folder / "none")
    nowhere = user.delayline(*command)
    for done, words in ((loopback, f"{store.outside} is this machine's own"), (nowhere, "no kubeconfig that can be used")):
        assert (done.code, done.out) == (2, "") and words in done.err and "Traceback" not in done.err, done.err
    assert shared.run("get", "rayjob", "nowhere").returncode != 0


@pytest.mark.kubernetes
def test_a_user_without_the_right_is_told_the_verb_and_the_resource(user: Workspace, shared: Namespace, tmp_path: Path) -> None:
    """A service account that may read the defaults and nothing else; then a token that is none."""
    shared.kubectl("create", "serviceaccount", "guest")
    shared.kubectl("create", "role", "reader", "--verb=get", "--resource=configmaps")
    shared.kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={shared.name}:guest")
    token = shared.kubectl("create", "token", "guest").strip()
    for given, words in ((token, "may not create rayjobs.ray.io"), ("not-a-token", "does not accept the credentials")):
        user.environment["KUBECONFIG"] = str(guest_config(shared.cluster, tmp_path, given))
        done = user.delayline("train", *FAST, "--name", "guest", "--detach", "--cluster", f"kube://{shared.name}")
        assert done.code == 2 and words in done.err, done.err
        assert given not in done.err


@pytest.mark.kubernetes
def test_kubectl_is_not_needed(user: Workspace, shared: Namespace) -> None:
    """The client goes by the kubeconfig alone."""
    user.environment["PATH"] = "/nowhere"
    done = user.delayline("runs", "list", "--json", "--cluster", f"kube://{shared.name}")
    assert done.code == 0, done.err
